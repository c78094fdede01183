-- Windows of an hour that start at a quarter past; one of them spans midnight.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 minutes'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, window.end AS closes, count(*) AS n FROM events
GROUP BY window(ts, '1 hour', '1 hour', '15 minutes');
