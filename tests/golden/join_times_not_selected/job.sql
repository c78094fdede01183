-- Joins for ever of sources with event times that the query does not select.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE paid WITH (connector = 'files', path = '${OUTPUT}/paid', format = 'json', output_mode = 'append');
CREATE TABLE some WITH (connector = 'files', path = '${OUTPUT}/some', format = 'json', output_mode = 'append');
CREATE TABLE counts WITH (connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'update');
INSERT INTO paid SELECT o.id FROM orders o JOIN payments p ON o.id = p.id;
INSERT INTO some SELECT o.id FROM orders o LEFT SEMI JOIN payments p ON o.id = p.id;
INSERT INTO counts SELECT o.id, count(*) AS n FROM orders o JOIN payments p ON o.id = p.id GROUP BY o.id;
