-- The two busiest windows, busiest first, in complete mode; of equally busy ones the earlier first.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE top WITH (
  connector = 'files', path = '${OUTPUT}/top', format = 'json', output_mode = 'complete'
);
INSERT INTO top
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds') ORDER BY n DESC, opens LIMIT 2;
