-- Hot items: which auctions got the most bids of ten seconds, every two seconds? Bids are counted
-- for each auction and window, auctions gathered by window and count, and the highest count of each window taken.
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP, extra STRING)
  WITH (connector = 'files', path = '${INPUT}/bid', format = 'json', max_files_per_trigger = 1,
        event_time = 'date_time', watermark_delay = '4 seconds');

CREATE TABLE q5 WITH (connector = 'memory', output_mode = 'append');

INSERT INTO q5
SELECT ended, bids, unnest(auctions) AS auction FROM (
  SELECT window.end AS ended, max(bids) AS bids, first_value(auctions ORDER BY bids DESC) AS auctions FROM (
    SELECT window AS w2, bids, array_agg(auction ORDER BY auction) AS auctions FROM (
      SELECT auction, window AS w, count(*) AS bids FROM bid GROUP BY auction, window(date_time, '10 seconds', '2 seconds')
    ) GROUP BY window(window_time(w), '2 seconds'), bids
  ) GROUP BY window(window_time(w2), '2 seconds')
);
