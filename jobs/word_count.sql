-- How often does each word stand in a folder of texts?
--
--   highwater generate text texts
--   highwater run jobs/word_count.sql --set INPUT=texts --available-now
--   highwater show checkpoints/word_count | head
CREATE TABLE lines (value STRING) WITH (connector = 'files', path = '${INPUT}', format = 'text', max_files_per_trigger = 1);

CREATE TABLE words WITH (connector = 'memory', output_mode = 'complete');

INSERT INTO words
SELECT word, count(*) AS count
FROM (SELECT unnest(string_to_array(trim(regexp_replace(lower(value), '[^\p{L}]+', ' ', 'g')), ' ')) AS word FROM lines)
WHERE word <> ''
GROUP BY word ORDER BY count DESC;
