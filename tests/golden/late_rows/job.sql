-- Late rows go to a side output, whole, also the columns that the query does not read, with the watermark that they
-- were behind; a row that the filter leaves out (v = 0) is not late.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  late_rows = '${OUTPUT}/counts.late'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM events WHERE v > 0 GROUP BY window(ts, '10 seconds');
