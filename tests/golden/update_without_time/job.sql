-- An aggregate that has nothing to do with the event time is not bounded by the watermark: nothing is late, not
-- even a row without a time, and no batch without data is made.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update'
);
INSERT INTO counts
SELECT k, count(*) AS n FROM events GROUP BY k;
