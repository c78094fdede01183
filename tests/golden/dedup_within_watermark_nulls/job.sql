-- Null is a key like any other; a row without a time is dropped, and counted.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'append', dedup_within_watermark = 'true'
);
INSERT INTO first
SELECT DISTINCT ON (k) k, v, ts FROM events;
