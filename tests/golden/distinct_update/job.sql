-- SELECT DISTINCT in update mode gives the rows that came in the batch, as an aggregate gives the groups that
-- received rows: each once a batch, and again in a later one.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'update'
);
INSERT INTO first
SELECT DISTINCT k FROM events;
