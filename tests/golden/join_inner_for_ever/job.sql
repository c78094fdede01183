-- An inner join without a watermark keeps all rows of both sides for ever.
CREATE TABLE orders (id STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/orders', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE payments (id STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/payments', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE paid WITH (
  connector = 'files', path = '${OUTPUT}/paid', format = 'json', output_mode = 'append'
);
INSERT INTO paid
SELECT o.id, o.v AS o, p.v AS p FROM orders o JOIN payments p ON o.id = p.id;
