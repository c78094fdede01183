-- What does a web server's log say? Five answers in one pass over its files, in Apache's combined format: how large
-- answers are, how often each status was given, which addresses come back, what is asked for most, and how much
-- is asked each hour. A line that cannot be read is counted, and named in bad-records/ of the checkpoint. Servers write a
-- request when it is answered, so lines stand up to a minute behind the newest: a minute is waited for them.
--
--   highwater generate access-log logs
--   highwater run jobs/log_analyzer.sql --set INPUT=logs --available-now
--   highwater show checkpoints/log_analyzer --query response_codes
--   highwater show checkpoints/log_analyzer --query top_endpoints
CREATE TABLE log (host STRING, time TIMESTAMP, path STRING, status INT, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'regex', pattern = 'combined_log',
        mode = 'dropmalformed', max_files_per_trigger = 1, event_time = 'time', watermark_delay = '1 minute');

CREATE TABLE content_size WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE response_codes WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE frequent_hosts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE top_endpoints WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE hourly WITH (connector = 'memory', output_mode = 'complete');

-- an answer without content has no size
INSERT INTO content_size
SELECT min(bytes) AS smallest, avg(bytes) AS mean, max(bytes) AS largest, sum(bytes) AS total, count(bytes) AS answers FROM log;

INSERT INTO response_codes
SELECT status, count(*) AS count FROM log GROUP BY status ORDER BY status;

INSERT INTO frequent_hosts
SELECT host, count(*) AS count FROM log GROUP BY host HAVING count(*) > 10 ORDER BY count DESC;

INSERT INTO top_endpoints
SELECT path, count(*) AS count FROM log GROUP BY path ORDER BY count DESC LIMIT 10;

-- all hours so far, and none is closed in complete mode, however late a line comes
INSERT INTO hourly
SELECT window.start AS hour, count(*) AS count FROM log GROUP BY window(time, '1 hour') ORDER BY hour;
