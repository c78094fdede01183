-- Aggregation over an aggregation in update mode: it would count what is changed again.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update'
);
INSERT INTO counts
SELECT window.start AS opens, max(n) AS most
FROM (SELECT window_time(window) AS t, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'))
GROUP BY window(t, '20 seconds');
