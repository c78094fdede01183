-- IN over a static table: each row of the stream once, however many partners it has.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE devices (id STRING, room STRING) WITH (
  connector = 'files', path = '${INPUT}/devices', format = 'json', static = 'true'
);
CREATE TABLE placed WITH (
  connector = 'files', path = '${OUTPUT}/placed', format = 'json', output_mode = 'append'
);
INSERT INTO placed
SELECT k, v FROM events WHERE k IN (SELECT id FROM devices);
