-- The side output of DISTINCT ON with an event time among its keys.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  late_rows = '${OUTPUT}/counts.late'
);
INSERT INTO counts
SELECT DISTINCT ON (k, ts) k, ts FROM events;
