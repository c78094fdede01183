-- UNION ALL of two sources: each batch takes a file of each, until one has no more.
CREATE TABLE a (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/a', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE b (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/b', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE few WITH (
  connector = 'files', path = '${OUTPUT}/few', format = 'json', output_mode = 'append'
);
INSERT INTO few
SELECT k, v FROM a UNION ALL SELECT k, v FROM b;
