-- Windows of three batches that slide by one: a row is in three of them. The first ones have the batches that there are;
-- a file without a byte is a batch, and of three such nothing is left.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '3'
);
INSERT INTO counts
SELECT k, count(*) AS n, sum(v) AS v FROM events GROUP BY k;
