-- In complete mode no window is ever closed, so no row is late.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete', late_rows = '${OUTPUT}/late');
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
