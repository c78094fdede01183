-- Counts over the union of two sources.
CREATE TABLE a (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/a', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE b (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/b', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE few WITH (
  connector = 'files', path = '${OUTPUT}/few', format = 'json', output_mode = 'update'
);
INSERT INTO few
SELECT k, count(*) AS v FROM (SELECT k, v FROM a UNION ALL SELECT k, v FROM b) GROUP BY k;
