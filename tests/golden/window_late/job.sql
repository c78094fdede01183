-- A row is late when the window that it falls into has ended at the watermark or before, not when its own time
-- is before it: 12 and 10 come just in time for a window that is open. A late row is counted and never seen
-- again.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
