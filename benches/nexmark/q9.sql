-- Winning bids: the highest of each auction while it was open, of equal ones the earliest. Update mode gives an auction
-- again when a bid came; the watermark lets go of bids, auctions are kept.
CREATE TABLE auction (id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT,
                      date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/auction', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q9 WITH (connector = 'memory', output_mode = 'update');

INSERT INTO q9
SELECT a.id, a.item_name, a.description, a.initial_bid, a.reserve, min(a.date_time) AS date_time,
  a.expires, a.seller, a.category, a.extra,
  first_value(b.bidder ORDER BY b.price DESC, b.date_time) AS bidder, max(b.price) AS price,
  first_value(b.date_time ORDER BY b.price DESC, b.date_time) AS bid_time,
  first_value(b.extra ORDER BY b.price DESC, b.date_time) AS bid_extra
FROM auction a JOIN bid b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND a.expires
GROUP BY a.id, a.item_name, a.description, a.initial_bid, a.reserve, a.expires, a.seller, a.category, a.extra;
