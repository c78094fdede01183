-- A session over the turn of 1970.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE sessions WITH (
  connector = 'files', path = '${OUTPUT}/sessions', format = 'json', output_mode = 'append'
);
INSERT INTO sessions
SELECT k, session_window.start AS opens, session_window.end AS closes, count(*) AS n FROM events
GROUP BY k, session_window(ts, '5 seconds');
