CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
SELECT s, count(*) AS c, sum(n), avg(f), min(day), max(at) FROM t WHERE s IN (80, '443') GROUP BY s HAVING count(*) > 1 ORDER BY c DESC LIMIT 10;