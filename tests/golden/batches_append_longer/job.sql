-- Windows of three batches with every second: they overlap by one batch.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '3', slide_batches = '2'
);
INSERT INTO counts
SELECT k, count(*) AS n, sum(v) AS v FROM events GROUP BY k;
