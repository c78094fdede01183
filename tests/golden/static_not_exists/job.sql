-- NOT EXISTS over a static table: rows of the stream without a partner; one whose key is null has none.
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
SELECT k, v FROM events WHERE NOT EXISTS (SELECT 1 FROM devices WHERE devices.id = events.k);
