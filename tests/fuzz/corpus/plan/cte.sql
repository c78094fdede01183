CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
WITH x AS (SELECT upper(s) AS u, CAST(n AS DOUBLE) AS g FROM t) SELECT u, stddev(g), array_agg(g ORDER BY g) FROM x GROUP BY u;