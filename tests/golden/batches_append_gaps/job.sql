-- A window of one batch with every second: smaller than the slide, so that the batches in between are in none.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '1', slide_batches = '2'
);
INSERT INTO counts
SELECT k, count(*) AS n, sum(v) AS v FROM events GROUP BY k;
