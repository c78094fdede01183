-- Three streams: what the lower join gives out may be 20 seconds and a microsecond behind the watermark, so the upper one
-- takes the watermark to be less by so much: it keeps the shipment at 20 until the watermark passes 40.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE shipments (id STRING, sts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/shipments', format = 'json', max_files_per_trigger = '1',
  event_time = 'sts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT o.id, o.ots, p.pts, s.sts
FROM orders o JOIN payments p
  ON o.id = p.id AND p.pts BETWEEN o.ots AND o.ots + INTERVAL '20 seconds'
JOIN shipments s ON s.id = o.id AND s.sts BETWEEN o.ots AND o.ots + INTERVAL '30 seconds';
