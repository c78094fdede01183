-- The event time stays what it is through views, subqueries and other names.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE VIEW seen AS SELECT k AS device, ts AS happened FROM events WHERE k IS NOT NULL;
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n FROM (SELECT happened AS t FROM seen) GROUP BY window(t, '10 seconds');
