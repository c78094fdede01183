-- How do users visit a site? A visit ends when a user has done nothing for five minutes; it is written once, when no click
-- that belongs to it can come any more.
--
--   highwater generate clicks clicks
--   highwater run jobs/sessions.sql --set INPUT=clicks --available-now
--   cat out/sessions/sessions-*.json | head
--
-- Clicks come up to twenty seconds out of order, so half a minute is waited for them. The visits that are still open at the
-- end of the input are in the state: the next file goes on with them.
CREATE TABLE clicks (time TIMESTAMP, user_id STRING, page STRING)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1,
        event_time = 'time', watermark_delay = '30 seconds');

CREATE TABLE sessions WITH (
  connector = 'files', path = '${OUTPUT:-out/sessions}', format = 'json', output_mode = 'append'
);

INSERT INTO sessions
SELECT user_id, session_window.start AS began, session_window.end AS ended, count(*) AS clicks, count(DISTINCT page) AS pages
FROM clicks GROUP BY user_id, session_window(time, '5 minutes');
