-- DISTINCT ON keeps the first row of each key, in the order of the input, for ever.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'append'
);
INSERT INTO first
SELECT DISTINCT ON (k) k, v FROM events;
