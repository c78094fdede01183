-- Top ten bids of each auction. Without a window function: all bids of an auction are gathered, and the state keeps them.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q19 WITH (connector = 'memory', output_mode = 'update');

INSERT INTO q19
SELECT auction, best['bidder'] AS bidder, best['price'] AS price, best['channel'] AS channel, best['url'] AS url,
  best['date_time'] AS date_time, best['extra'] AS extra
FROM (
  SELECT auction, unnest(array_slice(array_agg(
    named_struct('bidder', bidder, 'price', price, 'channel', channel, 'url', url, 'date_time', date_time, 'extra', extra)
    ORDER BY price DESC), 1, 10)) AS best
  FROM bid GROUP BY auction
);
