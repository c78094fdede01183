-- A window of no batch.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '0'
);
INSERT INTO counts SELECT k, count(*) AS n FROM events GROUP BY k;
