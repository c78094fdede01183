-- Which orders were paid within an hour, and which were not? Two streams, joined: an order waits for its payments, a payment
-- for its order, and an order that nobody paid comes out (with nulls) once no payment can come in time any more.
--
--   highwater generate orders shop
--   highwater run jobs/orders_join.sql --set INPUT=shop --available-now
--   grep -h '"paid":null' out/orders_join/checked-*.json | head
--
-- An order that was paid in parts is there once for each of them. Rows come up to half a minute out of order, so a minute is
-- waited for them.
CREATE TABLE orders (time TIMESTAMP, order_id STRING, customer STRING, cents BIGINT)
  WITH (connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = 1,
        event_time = 'time', watermark_delay = '1 minute');

CREATE TABLE payments (time TIMESTAMP, order_id STRING, cents BIGINT)
  WITH (connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = 1,
        event_time = 'time', watermark_delay = '1 minute');

CREATE TABLE checked WITH (
  connector = 'files', path = '${OUTPUT:-out/orders_join}', format = 'json', output_mode = 'append'
);

INSERT INTO checked
SELECT o.order_id, o.customer, o.cents AS owed, o.time AS ordered, p.time AS paid, p.cents AS given
FROM orders o LEFT JOIN payments p
  ON o.order_id = p.order_id AND p.time BETWEEN o.time AND o.time + INTERVAL '1 hour';
