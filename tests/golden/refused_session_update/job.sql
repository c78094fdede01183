-- Session windows in update mode: a merge would have to take back what was given.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update'
);
INSERT INTO counts
SELECT k, session_window.start AS opens, count(*) AS n FROM events GROUP BY k, session_window(ts, '5 seconds');
