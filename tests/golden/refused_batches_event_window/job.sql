-- In append mode the watermark closes windows of event time.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '2'
);
INSERT INTO counts SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
