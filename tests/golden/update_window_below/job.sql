-- A window that is no group key bounds nothing: no row is late, and no batch without data follows.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update'
);
INSERT INTO counts
SELECT k, count(*) AS n FROM (SELECT k, window(ts, '10 seconds') AS w FROM events) GROUP BY k;
