-- Rows without a time go to the side output as well; before the first event there is no watermark that they could be
-- behind.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  late_rows = '${OUTPUT}/counts.late'
);
INSERT INTO counts
SELECT window.start AS opens, k, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), k;
