-- Two sessions of one key in one file, the later one first.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE sessions WITH (
  connector = 'files', path = '${OUTPUT}/sessions', format = 'json', output_mode = 'append'
);
INSERT INTO sessions
SELECT k, session_window(ts, '5 seconds').start AS opens, session_window(ts, '5 seconds').end AS closes, sum(v) AS total
FROM events GROUP BY k, session_window(ts, '5 seconds');
