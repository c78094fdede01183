-- What is the network used for? Three questions over one pass of the input: the ports asked for most, the bytes of
-- each protocol, and how many different clients each server has.
--
--   highwater generate flows flows
--   highwater run jobs/port_traffic.sql --set INPUT=flows --available-now
--   highwater show checkpoints/port_traffic --query top_ports
--   tail out/port_traffic/protocol_bytes-*.json
--
-- The files hold what changed in each batch; --set OUTPUT=DIR puts them elsewhere.
CREATE TABLE flows (
  srcdevice STRING, dstdevice STRING, protocol DOUBLE, dstport STRING, srcbytes DOUBLE, dstbytes DOUBLE
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);

CREATE TABLE top_ports WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE protocol_bytes WITH (
  connector = 'files', path = '${OUTPUT:-out/port_traffic}', format = 'json', output_mode = 'update'
);
CREATE TABLE server_clients WITH (
  connector = 'files', path = '${OUTPUT:-out/port_traffic}', format = 'csv', output_mode = 'update'
);

INSERT INTO top_ports
SELECT dstport, count(*) AS flows FROM flows GROUP BY dstport ORDER BY flows DESC LIMIT 20;

INSERT INTO protocol_bytes
SELECT protocol, count(*) AS flows, sum(srcbytes + dstbytes) AS bytes FROM flows GROUP BY protocol;

INSERT INTO server_clients
SELECT dstdevice, count(DISTINCT srcdevice) AS clients FROM flows GROUP BY dstdevice;
