-- Last bid of each bidder on each auction. Update mode gives a pair's newest bid in each batch that brings one.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q18 WITH (connector = 'memory', output_mode = 'update');

INSERT INTO q18
SELECT auction, bidder, last_value(price ORDER BY date_time) AS price, last_value(channel ORDER BY date_time) AS channel,
  last_value(url ORDER BY date_time) AS url, max(date_time) AS date_time, last_value(extra ORDER BY date_time) AS extra
FROM bid GROUP BY auction, bidder;
