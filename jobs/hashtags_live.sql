-- What is talked about just now? How often each hashtag stands in the newest half minutes, in windows of thirty seconds that
-- begin every ten seconds, over messages that a TCP peer sends as JSON.
--
--   highwater generate live --port 9999                     (in another terminal: ten seconds of messages a second)
--   highwater run jobs/hashtags_live.sql
--   highwater show checkpoints/hashtags_live --output csv | sort -t, -k1,1r -k3,3nr | head     (while it runs, or later)
--
-- Windows that are over by half a minute are let go of, and so is what was received for them: what grows is a list of names.
SET retain_batches = '100';

CREATE TABLE messages (time TIMESTAMP, text STRING)
  WITH (connector = 'socket', host = '${HOST:-localhost}', port = '${PORT:-9999}', format = 'json',
        event_time = 'time', watermark_delay = '30 seconds');

-- a row for each word, without what stands around it: '(#Rust)' is '#rust'
CREATE VIEW words AS
SELECT time, unnest(string_to_array(regexp_replace(lower(text), '[^#a-z0-9_]+', ' ', 'g'), ' ')) AS word FROM messages;

-- open windows, which is what `show` shows
CREATE TABLE live_tags WITH (connector = 'memory', output_mode = 'update');

INSERT INTO live_tags
SELECT window.start AS began, word AS tag, count(*) AS count
FROM words WHERE word LIKE '#_%'
GROUP BY window(time, '30 seconds', '10 seconds'), word;
