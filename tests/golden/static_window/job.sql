-- Windows over a join with a static table: late rows are counted where the state is, after the join (b meets two
-- rooms).
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE devices (id STRING, room STRING) WITH (
  connector = 'files', path = '${INPUT}/devices', format = 'json', static = 'true'
);
CREATE TABLE placed WITH (
  connector = 'files', path = '${OUTPUT}/placed', format = 'json', output_mode = 'append'
);
INSERT INTO placed
SELECT window.start AS opens, room, count(*) AS n FROM events JOIN devices ON k = id GROUP BY window(ts, '10 seconds'), room;
