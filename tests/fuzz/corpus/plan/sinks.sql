CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
CREATE TABLE o WITH (connector = 'files', path = 'out', format = 'csv', output_mode = 'update');
CREATE TABLE m WITH (connector = 'memory');
INSERT INTO o SELECT n % 3 AS k, sum(d) AS total FROM t GROUP BY n % 3;
INSERT INTO m SELECT s FROM t;
SET retain_batches = '5'; SET snapshot_batches = 2;