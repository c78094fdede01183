-- What a left join gives out without a partner lacks that partner's time, and is a row all the same: the upper join, which asks
-- for no time, keeps it, whichever time comes first among its columns.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE payments (id STRING, pts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1',
  event_time = 'pts', watermark_delay = '10 seconds'
);
CREATE TABLE names (id STRING, nts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/names', format = 'json', max_files_per_trigger = '1',
  event_time = 'nts', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append'
);
INSERT INTO counts
SELECT o.id, o.pts, o.ots, n.nts
FROM (SELECT p.pts AS pts, o.ots AS ots, o.id AS id FROM orders o LEFT JOIN payments p
  ON o.id = p.id AND p.pts BETWEEN o.ots AND o.ots + INTERVAL '20 seconds') o
JOIN names n ON o.id = n.id;
