-- Windows of seven days are aligned to the epoch, which was a Thursday.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete'
);
INSERT INTO counts
SELECT window.start AS opens, window.end AS closes, count(*) AS n FROM events GROUP BY window(ts, '7 days');
