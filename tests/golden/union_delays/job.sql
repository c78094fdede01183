-- Each source has its own delay; the watermark is the smaller of the two differences, so that either may hold it
-- back.
CREATE TABLE a (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/a', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE b (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/b', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '30 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM (SELECT ts FROM a UNION ALL SELECT ts FROM b)
GROUP BY window(ts, '10 seconds');
