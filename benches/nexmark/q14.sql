-- Calculation: filter, arithmetic, CASE and functions of texts.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q14 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q14
SELECT auction, bidder, 0.908 * price AS price,
  CASE WHEN date_part('hour', date_time) BETWEEN 8 AND 18 THEN 'dayTime'
       WHEN date_part('hour', date_time) <= 6 OR date_part('hour', date_time) >= 20 THEN 'nightTime'
       ELSE 'otherTime' END AS bid_time_type,
  date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_count
FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000;
