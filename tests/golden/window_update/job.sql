-- Update mode gives the groups that received rows in the batch. What the watermark closes goes silently, and a
-- batch without data gives nothing.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update'
);
INSERT INTO counts
SELECT window.start AS opens, k, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), k;
