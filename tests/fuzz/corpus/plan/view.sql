CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
CREATE VIEW v AS SELECT *, CASE WHEN n > 0 THEN 'p' ELSE NULL END AS sign FROM t;
SELECT sign, approx_distinct(s), median(f) FROM v GROUP BY sign;