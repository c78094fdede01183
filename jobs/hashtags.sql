-- What is talked about? The ten most frequent hashtags of the newest half minute, in windows of thirty seconds that begin
-- every ten seconds.
--
--   highwater generate messages messages
--   highwater run jobs/hashtags.sql --set INPUT=messages --available-now
--   highwater show checkpoints/hashtags
--
-- The newest window comes first, its most frequent tags first in it; where it has fewer than ten tags, the window before it
-- follows. A window that is shown first has only just begun: three of them overlap at any moment. --set LIMIT=30 shows more.
-- Any window can still change in complete mode, so all of them are kept.
CREATE TABLE messages (time TIMESTAMP, text STRING)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);

-- a row for each word, without what stands around it: '(#Rust)' is '#rust'
CREATE VIEW words AS
SELECT time, unnest(string_to_array(regexp_replace(lower(text), '[^#a-z0-9_]+', ' ', 'g'), ' ')) AS word FROM messages;

CREATE TABLE top_tags WITH (connector = 'memory', output_mode = 'complete');

INSERT INTO top_tags
SELECT window.start AS began, word AS tag, count(*) AS count
FROM words WHERE word LIKE '#_%'
GROUP BY window(time, '30 seconds', '10 seconds'), word
ORDER BY began DESC, count DESC LIMIT ${LIMIT:-10};
