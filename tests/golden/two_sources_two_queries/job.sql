-- A job has one watermark: of two sources that feed a query each, the slower one holds back the windows of both.
CREATE TABLE a (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/a', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE b (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/b', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE from_a WITH (
  connector = 'files', path = '${OUTPUT}/from_a', format = 'json', output_mode = 'append'
);
CREATE TABLE from_b WITH (
  connector = 'files', path = '${OUTPUT}/from_b', format = 'json', output_mode = 'append'
);
INSERT INTO from_a SELECT window.start AS opens, count(*) AS n FROM a GROUP BY window(ts, '10 seconds');
INSERT INTO from_b SELECT window.start AS opens, count(*) AS n FROM b GROUP BY window(ts, '10 seconds');
