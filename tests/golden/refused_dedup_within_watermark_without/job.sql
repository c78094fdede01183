-- Deduplication within the watermark, and no watermark.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'append', dedup_within_watermark = 'true'
);
INSERT INTO first
SELECT DISTINCT ON (k) k, v FROM events;
