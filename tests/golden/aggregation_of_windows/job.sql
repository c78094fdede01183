-- Aggregation over windowed aggregation: windows of ten seconds are counted, then compared within twenty. A
-- window that closes reaches the outer one in the same batch, which closes in it too where its end has been
-- passed.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE busy WITH (
  connector = 'files', path = '${OUTPUT}/busy', format = 'json', output_mode = 'append'
);
INSERT INTO busy
SELECT window.start AS opens, max(n) AS most, count(*) AS parts
FROM (SELECT window_time(window) AS t, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'))
GROUP BY window(t, '20 seconds');
