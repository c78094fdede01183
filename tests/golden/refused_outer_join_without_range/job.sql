-- An outer join of two streams with watermarks, and nothing that bounds how far apart partners can be.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE paid WITH (
  connector = 'files', path = '${OUTPUT}/paid', format = 'json', output_mode = 'append'
);
INSERT INTO paid
SELECT o.id, o.ots, p.pts
FROM orders o LEFT JOIN payments p
  ON o.id = p.id;
