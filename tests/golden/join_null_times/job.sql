-- A join without a bound asks for no time: a row that has none meets its partner, and is not late.
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
SELECT o.id, o.ots, p.pts FROM orders o JOIN payments p ON o.id = p.id;
