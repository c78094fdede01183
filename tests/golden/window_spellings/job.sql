-- Four ways to name a window: window.start, the call with a field, an alias over a subquery, and the window as a
-- whole.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE a WITH (
  connector = 'files', path = '${OUTPUT}/a', format = 'json', output_mode = 'append'
);
CREATE TABLE b WITH (
  connector = 'files', path = '${OUTPUT}/b', format = 'json', output_mode = 'append'
);
CREATE TABLE c WITH (
  connector = 'files', path = '${OUTPUT}/c', format = 'json', output_mode = 'append'
);
CREATE TABLE d WITH (
  connector = 'files', path = '${OUTPUT}/d', format = 'json', output_mode = 'append'
);
INSERT INTO a SELECT window.start AS opens, window.end AS closes, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
INSERT INTO b
SELECT window(ts, '10 seconds').start AS opens, window(ts, '10 seconds').end AS closes, count(*) AS n
FROM events GROUP BY window(ts, '10 seconds');
INSERT INTO c
SELECT w.start AS opens, w.end AS closes, n
FROM (SELECT window(ts, '10 seconds') AS w, count(*) AS n FROM events GROUP BY window(ts, '10 seconds'));
INSERT INTO d SELECT window, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
