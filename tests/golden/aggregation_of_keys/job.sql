-- How many keys did each window have, and how often did the busiest come? The outer window is the same as the
-- inner one: window_time is its last microsecond.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE busy WITH (
  connector = 'files', path = '${OUTPUT}/busy', format = 'json', output_mode = 'append'
);
INSERT INTO busy
SELECT window.start AS opens, max(n) AS most, count(*) AS parts
FROM (SELECT window_time(window) AS t, k, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), k)
GROUP BY window(t, '10 seconds');
