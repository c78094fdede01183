-- A condition beside the key and the time range decides, too: a payment that is too small does not pay, and the
-- order comes out unpaid.
CREATE TABLE orders (id STRING, v BIGINT, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, v BIGINT, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE paid WITH (
  connector = 'files', path = '${OUTPUT}/paid', format = 'json', output_mode = 'append'
);
INSERT INTO paid
SELECT o.id, o.v AS o, p.v AS p
FROM orders o LEFT JOIN payments p
  ON o.id = p.id AND p.pts BETWEEN o.ots AND o.ots + INTERVAL '20 seconds' AND p.v >= o.v;
