-- How does the traffic change? Flows and bytes of every ten seconds, printed as they change. Several input files can
-- fall into the same ten seconds: the later print of a period replaces the earlier.
--
--   highwater generate flows flows
--   highwater run jobs/traffic_by_time.sql --set INPUT=flows --available-now --output json
CREATE TABLE flows (
  time DOUBLE, srcbytes DOUBLE, dstbytes DOUBLE
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);

CREATE TABLE traffic WITH (connector = 'console', output_mode = 'update');

INSERT INTO traffic
SELECT CAST(floor(time / 10) * 10 AS BIGINT) AS from_second, count(*) AS flows, sum(srcbytes + dstbytes) AS bytes
FROM flows GROUP BY floor(time / 10);
