CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
SELECT s, n + 1 AS m FROM t WHERE s LIKE '%a%' AND n BETWEEN 1 AND 5 OR b;