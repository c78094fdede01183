-- DISTINCT ON with an order in append mode: a later row may become the first.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE out WITH (
  connector = 'files', path = '${OUTPUT}/out', format = 'json', output_mode = 'append'
);
INSERT INTO out
SELECT DISTINCT ON (k) k, v FROM events ORDER BY k, v DESC;
