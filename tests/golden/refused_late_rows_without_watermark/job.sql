-- Without a watermark no row is late.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'update', late_rows = '${OUTPUT}/late');
INSERT INTO counts SELECT k, count(*) AS n FROM events GROUP BY k;
