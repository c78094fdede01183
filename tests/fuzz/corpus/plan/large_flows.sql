-- Which flows moved more than 100,000 bytes? Each is written once, as its file comes in; nothing is remembered.
--
--   highwater generate flows flows
--   highwater run jobs/large_flows.sql --set INPUT=flows --available-now
--   cat out/large_flows/large_flows-*.json
--
-- --set BYTES=1000 asks for less, --set OUTPUT=DIR puts the files elsewhere; both want a checkpoint of their own
-- (--checkpoint DIR). Without --available-now the job keeps waiting for new files until it is stopped.
CREATE TABLE flows (
  time DOUBLE, duration DOUBLE, srcdevice STRING, dstdevice STRING, dstport STRING, srcbytes DOUBLE, dstbytes DOUBLE
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = 1);

CREATE TABLE large_flows WITH (
  connector = 'files', path = '${OUTPUT:-out/large_flows}', format = 'json', output_mode = 'append'
);

INSERT INTO large_flows
SELECT time, srcdevice, dstdevice, dstport, srcbytes + dstbytes AS bytes, duration
FROM flows WHERE srcbytes + dstbytes > ${BYTES:-100000};
