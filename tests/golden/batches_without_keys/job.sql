-- An aggregate without keys has one row for each window, of a window without rows too; in between there is none.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '2', slide_batches = '2'
);
INSERT INTO counts
SELECT count(*) AS n, sum(v) AS v, max(v) AS most FROM events WHERE k <> 'x';
