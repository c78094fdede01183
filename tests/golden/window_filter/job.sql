-- The watermark follows all rows of the source, also those that the filter turns away (b at 30). A late row that
-- the filter turns away reaches no state and is not counted.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, k, count(*) AS n FROM events WHERE k = 'a' GROUP BY window(ts, '10 seconds'), k;
