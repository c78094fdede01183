-- With the event time among the keys the watermark bounds the state: keys at the watermark go, and rows at it
-- are late, as are those without a time.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'append'
);
INSERT INTO first
SELECT DISTINCT ON (k, ts) k, v, ts FROM events;
