-- Sessions of what a join gives out.
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
SELECT o.id, count(*) AS n
FROM orders o JOIN payments p
  ON o.id = p.id AND p.pts BETWEEN o.ots AND o.ots + INTERVAL '20 seconds'
GROUP BY o.id, session_window(o.ots, '10 seconds');
