-- Each row brings its own gap: five seconds, or twenty for those that are slow. A row with a short gap inside of
-- a long session does not shorten it.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE sessions WITH (
  connector = 'files', path = '${OUTPUT}/sessions', format = 'json', output_mode = 'append'
);
INSERT INTO sessions
SELECT v, session_window.start AS opens, session_window.end AS closes, count(*) AS n FROM events
GROUP BY v, session_window(ts, CASE WHEN k = 'slow' THEN '20 seconds' ELSE '5 seconds' END);
