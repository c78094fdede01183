-- How often does each word stand in what is typed on a terminal, or whatever else a TCP peer sends?
--
--   nc -lk 9999                                             (in another terminal; then type lines)
--   highwater run jobs/word_count_socket.sql
--   highwater show checkpoints/word_count_socket | head     (while it runs, or later)
--
-- Without nc: highwater generate live --lines text --port 9999
--
-- What was received is durable before it is counted: kill the job, start it again, and each line counts once. A line counts
-- when it ends, or when the peer closes the connection; the job connects again by itself.
CREATE TABLE lines (value STRING)
  WITH (connector = 'socket', host = '${HOST:-localhost}', port = '${PORT:-9999}', format = 'text');

CREATE TABLE words WITH (connector = 'memory', output_mode = 'complete');

INSERT INTO words
SELECT word, count(*) AS count
FROM (SELECT unnest(string_to_array(trim(regexp_replace(lower(value), '[^\p{L}]+', ' ', 'g')), ' ')) AS word FROM lines)
WHERE word <> ''
GROUP BY word ORDER BY count DESC;
