-- Complete mode keeps every group: no row is late, and no batch without data is made. A row without a time is
-- dropped all the same, and counted.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete'
);
INSERT INTO counts
SELECT window.start AS opens, k, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), k;
