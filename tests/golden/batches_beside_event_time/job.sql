-- A batch without data, which follows for another query's watermark, is a batch of the window, too; the window knows no
-- late row, though the table has an event time.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE closed WITH (
  connector = 'files', path = '${OUTPUT}/closed', format = 'json', output_mode = 'append'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete',
  window_batches = '2'
);
CREATE TABLE pairs WITH (
  connector = 'files', path = '${OUTPUT}/pairs', format = 'json', output_mode = 'append',
  window_batches = '2', slide_batches = '2'
);
INSERT INTO closed SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
INSERT INTO counts SELECT k, count(*) AS n FROM events GROUP BY k;
INSERT INTO pairs SELECT k, sum(v) AS v FROM events GROUP BY k;
