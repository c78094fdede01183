-- Two queries with their own windows: what is late for one is not for the other, and only the one that asks for it has a
-- side output. It reads a union, whose columns a late row has.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE others (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/others', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE long WITH (connector = 'files', path = '${OUTPUT}/long', format = 'json', output_mode = 'append');
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  late_rows = '${OUTPUT}/counts.late'
);
INSERT INTO long
SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '1 minute');
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n
FROM (SELECT k, ts FROM events UNION ALL SELECT k, ts FROM others) GROUP BY window(ts, '10 seconds');
