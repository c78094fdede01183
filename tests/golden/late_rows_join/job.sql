-- Late rows of both sides, each with its own columns. Rows of either side that are at the watermark or before are late, as are rows without a time; one after it
-- meets its partner.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE paid WITH (
  connector = 'files', path = '${OUTPUT}/paid', format = 'json', output_mode = 'append',
  late_rows = '${OUTPUT}/paid.late'
);
INSERT INTO paid
SELECT o.id, o.ots, p.pts
FROM orders o JOIN payments p
  ON o.id = p.id AND p.pts BETWEEN o.ots AND o.ots + INTERVAL '20 seconds';
