-- The groups of the last two batches, in complete mode: a key that neither has is gone, the null key too, and
-- one that comes back begins anew. A file without a byte is a batch of the window.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete',
  window_batches = '2'
);
INSERT INTO counts
SELECT k, count(*) AS n, sum(v) AS v FROM events GROUP BY k;
