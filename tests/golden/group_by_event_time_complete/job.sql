-- In complete mode no watermark closes a group, so nothing asks for a time: rows without one are a group, as in plain SQL.
CREATE TABLE orders (id STRING, ots TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1',
  event_time = 'ots', watermark_delay = '10 seconds'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete'
);
INSERT INTO counts
SELECT ots, count(*) AS n FROM orders GROUP BY ots;
