-- SELECT DISTINCT in append mode gives each row once and for ever; null is a value like any other.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'append'
);
INSERT INTO first
SELECT DISTINCT k FROM events;
