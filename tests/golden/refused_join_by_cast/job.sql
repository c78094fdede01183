-- A range over days says nothing of moments: a row could come out alone before its partner is there.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE out WITH (
  connector = 'files', path = '${OUTPUT}/out', format = 'json', output_mode = 'append'
);
INSERT INTO out
SELECT a.k, b.v FROM events a LEFT JOIN events b
  ON a.k = b.k AND CAST(b.ts AS DATE) <= CAST(a.ts AS DATE);
