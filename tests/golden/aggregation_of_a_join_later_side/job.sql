-- By the payment's time a window is closed at its end: a payment waits for no order that is later than itself, so it
-- comes out of the join at once or not at all.
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
GROUP BY window(p.pts, '10 seconds');
