-- Windows of event time in complete mode, of the last two batches: no watermark closes them, they are keys like others,
-- and a row without a time is in none.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete',
  window_batches = '2'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
