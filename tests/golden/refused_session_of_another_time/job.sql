-- Sessions of a time that no watermark follows.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE out WITH (
  connector = 'files', path = '${OUTPUT}/out', format = 'json', output_mode = 'append'
);
INSERT INTO out
SELECT k, count(*) AS n FROM events GROUP BY k, session_window(to_timestamp_seconds(v), '5 seconds');
