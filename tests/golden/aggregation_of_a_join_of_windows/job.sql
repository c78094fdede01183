-- A join by equal windows keeps a row until its window is over, so the aggregate by that window is closed with it.
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
SELECT w.start AS opens, n FROM (
  SELECT o.w AS w, count(*) AS n
  FROM (SELECT id, window(ots, '10 seconds') AS w FROM orders) o
  JOIN (SELECT id, window(pts, '10 seconds') AS w FROM payments) p ON o.id = p.id AND o.w = p.w
  GROUP BY o.w);
