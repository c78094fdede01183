-- A key is remembered until the watermark has reached the time of its first row plus the delay (1 + 10); rows in
-- between are dropped and do not prolong it. After that the key is new.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'append', dedup_within_watermark = 'true'
);
INSERT INTO first
SELECT DISTINCT ON (k) k, v, ts FROM events;
