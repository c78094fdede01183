CREATE TABLE t (s STRING, n BIGINT, f DOUBLE, d DECIMAL(10, 2), day DATE, at TIMESTAMP, b BOOLEAN)
  WITH (connector = 'files', path = '${INPUT}', format = 'json');
SELECT date_trunc('hour', at) AS h, count(DISTINCT s) FROM t WHERE at > now() - INTERVAL '1 day' GROUP BY date_trunc('hour', at);