-- Two static tables, one of them CSV with a header, beside one stream.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE devices (id STRING, room STRING) WITH (
  connector = 'files', path = '${INPUT}/devices', format = 'csv', header = 'true', static = 'true'
);
CREATE TABLE floors (room STRING, floor BIGINT) WITH (
  connector = 'files', path = '${INPUT}/floors', format = 'csv', header = 'true', static = 'true'
);
CREATE TABLE placed WITH (
  connector = 'files', path = '${OUTPUT}/placed', format = 'json', output_mode = 'append'
);
INSERT INTO placed
SELECT k, v, floor FROM events JOIN devices ON k = devices.id LEFT JOIN floors ON devices.room = floors.room;
