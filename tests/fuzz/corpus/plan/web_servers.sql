-- Which devices are web servers? Those that are asked for port 80 or 443, counted over all flows so far.
--
--   highwater generate flows flows
--   highwater run jobs/web_servers.sql --set INPUT=flows --available-now
--   highwater show checkpoints/web_servers
--
-- The same answer without state, over all the input at once:
--   highwater batch jobs/web_servers.sql --set INPUT=flows
CREATE TABLE flows (
  time DOUBLE, duration DOUBLE, srcdevice STRING, dstdevice STRING, protocol DOUBLE, srcport STRING,
  dstport STRING, srcpackets DOUBLE, dstpackets DOUBLE, srcbytes DOUBLE, dstbytes DOUBLE
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');

CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');

INSERT INTO counts
SELECT dstdevice, count(*) AS count FROM flows
WHERE dstport IN ('80', '443') GROUP BY dstdevice ORDER BY count DESC;
