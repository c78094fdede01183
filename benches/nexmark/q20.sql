-- Bids expanded with their auction, of one category. Two streams joined without a bound: all bids are kept.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE auction (id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT,
                      date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/auction', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q20 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q20
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time AS bid_time, b.extra AS bid_extra,
  a.item_name, a.description, a.initial_bid, a.reserve, a.date_time AS auction_time, a.expires, a.seller, a.category,
  a.extra AS auction_extra
FROM bid b JOIN auction a ON b.auction = a.id WHERE a.category = 10;
