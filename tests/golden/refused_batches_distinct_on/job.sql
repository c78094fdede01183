-- DISTINCT ON keeps keys of all batches.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '2'
);
INSERT INTO counts SELECT DISTINCT ON (k) k, v FROM events;
