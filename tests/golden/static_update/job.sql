-- Counts over a join with a static table, in update mode.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE devices (id STRING, room STRING) WITH (
  connector = 'files', path = '${INPUT}/devices', format = 'json', static = 'true'
);
CREATE TABLE placed WITH (
  connector = 'files', path = '${OUTPUT}/placed', format = 'json', output_mode = 'update'
);
INSERT INTO placed
SELECT room, count(*) AS n FROM events JOIN devices ON k = id GROUP BY room;
