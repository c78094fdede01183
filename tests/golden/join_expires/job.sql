-- An auction waits for bids up to its own `expires`, a time that is no event time: it is let go when the watermark of the bids
-- has passed it. One that has none (B) meets no bid, and waits for nothing.
CREATE TABLE auctions (id STRING, opens TIMESTAMP, expires TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/auctions', format = 'json', max_files_per_trigger = '1',
  event_time = 'opens', watermark_delay = '10 seconds'
);
CREATE TABLE bids (auction STRING, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/bids', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE sold WITH (
  connector = 'files', path = '${OUTPUT}/sold', format = 'json', output_mode = 'append'
);
INSERT INTO sold
SELECT a.id, b.ts FROM auctions a LEFT JOIN bids b ON b.auction = a.id AND b.ts BETWEEN a.opens AND a.expires;
