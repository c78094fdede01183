-- The call itself has fields, and so has an alias of it over a subquery; other aggregates of a session merge,
-- too.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE sessions WITH (
  connector = 'files', path = '${OUTPUT}/sessions', format = 'json', output_mode = 'append'
);
INSERT INTO sessions
SELECT k, s.start AS opens, s.end AS closes, total, high
FROM (SELECT k, session_window(ts, '5 seconds') AS s, sum(v) AS total, max(v) AS high FROM events
      GROUP BY k, session_window(ts, '5 seconds'));
