-- What has no inverse: minima, distinct values, medians and lists of the last two batches, after larger and smaller ones
-- have left.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete',
  window_batches = '2'
);
INSERT INTO counts
SELECT min(v) AS least, max(v) AS most, count(DISTINCT v) AS kinds, CAST(median(v) AS DOUBLE) AS middle, array_agg(k) AS ks FROM events;
