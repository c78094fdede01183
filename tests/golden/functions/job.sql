-- Functions for logs: parts of texts by regular expression and by separators, times with a zone of their own (by offset and by
-- name), parts of URLs, values inside of JSON texts.
CREATE TABLE events (line STRING, t STRING, url STRING, body STRING) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE parts WITH (
  connector = 'files', path = '${OUTPUT}/parts', format = 'json', output_mode = 'append'
);
CREATE TABLE words WITH (
  connector = 'files', path = '${OUTPUT}/words', format = 'json', output_mode = 'complete'
);
INSERT INTO parts
SELECT regexp_match(line, 'id=([0-9]+)')[1] AS id, split_part(line, ' ', 1) AS verb,
  to_timestamp(t, '%Y-%m-%d %H:%M:%S %z') AS utc,
  to_local_time(to_timestamp(t, '%Y-%m-%d %H:%M:%S %z') AT TIME ZONE 'UTC' AT TIME ZONE 'Europe/Berlin') AS berlin,
  parse_url(url, 'HOST') AS host, parse_url(url, 'PATH') AS path, parse_url(url, 'QUERY', 'q') AS q,
  get_json_object(body, '$.user.name') AS name, CAST(get_json_object(body, '$.sizes[1]') AS BIGINT) AS size
FROM events;
INSERT INTO words
SELECT word, count(*) AS n FROM (SELECT unnest(string_to_array(line, ' ')) AS word FROM events) GROUP BY word ORDER BY word;
