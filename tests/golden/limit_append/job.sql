-- LIMIT in append mode: the first rows of the whole stream, over restarts.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE few WITH (
  connector = 'files', path = '${OUTPUT}/few', format = 'json', output_mode = 'append'
);
INSERT INTO few
SELECT k, v FROM events LIMIT 3;
