-- Several aggregates of one window, with a null among the values and one distinct count.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, count(v) AS n, sum(v) AS total, min(v) AS low, max(v) AS high, avg(v) AS mean,
  count(DISTINCT k) AS keys
FROM events GROUP BY window(ts, '10 seconds');
