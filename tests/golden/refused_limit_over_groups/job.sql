-- LIMIT over windows in append mode: they close in an order of their own.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE out WITH (
  connector = 'files', path = '${OUTPUT}/out', format = 'json', output_mode = 'append'
);
INSERT INTO out
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds') LIMIT 2;
