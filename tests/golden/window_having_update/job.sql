-- HAVING over windows in update mode: a group comes out in the batch that carries it over the limit, and
-- whenever it changes after that.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update'
);
INSERT INTO counts
SELECT window.start AS opens, k, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'), k
HAVING count(*) >= 2;
