-- A join gives out rows whose time the watermark has passed (x at 1, in batch 4): an order is kept for the 20 seconds in
-- which it may be paid, so to the aggregate above the watermark is less by so much, and none of them is late. The
-- window from 0 to 10 is closed at 30.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT window.start AS opens, count(*) AS n
FROM orders o JOIN payments p
  ON o.id = p.id AND p.pts BETWEEN o.ots AND o.ots + INTERVAL '20 seconds'
GROUP BY window(o.ots, '10 seconds');
