-- SELECT DISTINCT in complete mode: all rows so far, every batch.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE first WITH (
  connector = 'files', path = '${OUTPUT}/first', format = 'json', output_mode = 'complete'
);
INSERT INTO first
SELECT DISTINCT k FROM events;
