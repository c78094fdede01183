-- Highest bid of each ten seconds. Of bids with the same price the earliest: Nexmark asks for all of them, by a join of
-- the bids with their windows' maximum, which is refused.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q7 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q7
SELECT window.start AS began, max(price) AS price,
  first_value(auction ORDER BY price DESC, date_time) AS auction,
  first_value(bidder ORDER BY price DESC, date_time) AS bidder,
  first_value(date_time ORDER BY price DESC, date_time) AS date_time
FROM bid GROUP BY window(date_time, '10 seconds');
