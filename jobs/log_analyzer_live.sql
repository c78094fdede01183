-- What does a web server's log say while it is written? A spool folder takes the logs as they come, and tables of PostgreSQL
-- show what they say, for whoever asks there: each batch is in all of a table or not at all, and once, whatever is killed.
-- README.md has a walk through.
--
--   export DATABASE_URL=postgres://USER:PASSWORD@HOST/DATABASE
--   highwater generate access-log logs
--   highwater run jobs/log_analyzer_live.sql --set INPUT=logs --available-now
--   psql "$DATABASE_URL" -c 'SELECT * FROM response_codes'
CREATE TABLE log (host STRING, time TIMESTAMP, path STRING, status INT, bytes BIGINT)
  WITH (connector = 'files', path = '${INPUT}', format = 'regex', pattern = 'combined_log',
        mode = 'dropmalformed', max_files_per_trigger = 1, event_time = 'time', watermark_delay = '1 minute');

-- few rows, all of them new with each batch
CREATE TABLE response_codes WITH (connector = 'postgres', url = '${env:DATABASE_URL}', output_mode = 'complete');
-- many rows, of which a batch changes some
CREATE TABLE endpoints WITH (connector = 'postgres', url = '${env:DATABASE_URL}', output_mode = 'update');
-- rows that no later batch changes: an hour when it is over, and what went wrong
CREATE TABLE hourly WITH (connector = 'postgres', url = '${env:DATABASE_URL}', output_mode = 'append');
CREATE TABLE failures WITH (connector = 'postgres', url = '${env:DATABASE_URL}', output_mode = 'append');

INSERT INTO response_codes
SELECT status, count(*) AS count FROM log GROUP BY status ORDER BY status;

INSERT INTO endpoints
SELECT path, count(*) AS count, sum(bytes) AS bytes FROM log GROUP BY path;

INSERT INTO hourly
SELECT window.start AS hour, count(*) AS count, count(DISTINCT host) AS hosts FROM log GROUP BY window(time, '1 hour');

INSERT INTO failures
SELECT time, host, path, status FROM log WHERE status >= 500;
