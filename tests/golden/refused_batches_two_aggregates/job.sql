-- An aggregate over an aggregate would need retractions.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '2'
);
INSERT INTO counts SELECT n, count(*) AS ks FROM (SELECT k, count(*) AS n FROM events GROUP BY k) AS inner_one GROUP BY n;
