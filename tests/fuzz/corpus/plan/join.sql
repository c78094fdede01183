CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
SELECT a.s FROM t a JOIN t b ON a.n = b.n;