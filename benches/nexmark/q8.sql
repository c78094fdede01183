-- New users: who registered and opened an auction in the same ten seconds? The windows bound the join. Each person once,
-- which is what a semi join gives.
CREATE TABLE person (id BIGINT, name STRING, email_address STRING, credit_card STRING, city STRING, state STRING,
                     date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/person', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE auction (id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT,
                      date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/auction', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q8 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q8
SELECT p.id, p.name, p.w.start AS began
FROM (SELECT id, name, window(date_time, '10 seconds') AS w FROM person) p
LEFT SEMI JOIN (SELECT seller, window(date_time, '10 seconds') AS w FROM auction) a ON p.id = a.seller AND p.w = a.w;
