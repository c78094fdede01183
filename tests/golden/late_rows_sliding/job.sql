-- A row that some open window takes (7) is not late, and does not go to the side output, although it misses a window
-- that has closed.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  late_rows = '${OUTPUT}/counts.late'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds', '5 seconds');
