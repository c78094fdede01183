-- Local item suggestion: who sells things of a category in three states? Two streams joined without a bound: all of their rows
-- that pass the filters are kept.
CREATE TABLE auction (id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT,
                      date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/auction', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE person (id BIGINT, name STRING, email_address STRING, credit_card STRING, city STRING, state STRING,
                     date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/person', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q3 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q3
SELECT p.name, p.city, p.state, a.id
FROM auction a JOIN person p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca');
