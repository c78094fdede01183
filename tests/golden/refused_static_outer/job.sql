-- A static table cannot be the side that an outer join keeps: its rows would be unmatched for ever, or for now.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE devices (id STRING, room STRING) WITH (
  connector = 'files', path = '${INPUT}/devices', format = 'json', static = 'true'
);
CREATE TABLE placed WITH (
  connector = 'files', path = '${OUTPUT}/placed', format = 'json', output_mode = 'append'
);
INSERT INTO placed
SELECT k, v, room FROM devices LEFT JOIN events ON k = id;
