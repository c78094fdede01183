-- An aggregate by event time over a join of streams: the join gives out rows that are late already.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE out WITH (
  connector = 'files', path = '${OUTPUT}/out', format = 'json', output_mode = 'append'
);
INSERT INTO out
SELECT window.start AS opens, count(*) AS n
FROM (SELECT a.ts AS t FROM events a LEFT JOIN events b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 minute')
GROUP BY window(t, '10 seconds');
