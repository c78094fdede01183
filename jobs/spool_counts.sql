-- How often was each page asked for, in all and by the hour? A folder takes the logs of web servers as they come; each
-- file counts once, under the name that it came with.
--
--   highwater generate access-log spool --files 1
--   highwater run jobs/spool_counts.sql --set INPUT=spool --available-now
--   highwater show checkpoints/spool_counts --query urls
--
-- The same log under another name is new input, and the counts double; once more, and they are three times as high:
--   cp spool/access_0001.log spool/again.log
--   highwater run jobs/spool_counts.sql --set INPUT=spool --available-now
--   highwater show checkpoints/spool_counts --query urls
CREATE TABLE log (time TIMESTAMP, path STRING)
  WITH (connector = 'files', path = '${INPUT}', format = 'regex', pattern = 'combined_log',
        mode = 'dropmalformed', max_files_per_trigger = 1);

CREATE TABLE urls WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE urls_by_hour WITH (connector = 'memory', output_mode = 'complete');

INSERT INTO urls
SELECT path, count(*) AS count FROM log GROUP BY path ORDER BY count DESC;

-- an hour from every half hour on, so that each request is in two of them; complete, since a log may come at any time later
INSERT INTO urls_by_hour
SELECT window.start AS began, path, count(*) AS count
FROM log GROUP BY window(time, '1 hour', '30 minutes'), path ORDER BY began, count DESC;
