-- SELECT DISTINCT in update mode: each row when it is first seen; it never changes after that.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'update'
);
INSERT INTO first
SELECT DISTINCT k FROM events;
