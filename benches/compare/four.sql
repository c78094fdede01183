-- Four questions over one pass of the input; the same texts are in duckdb_batch.py.
CREATE TABLE flows (
  duration DOUBLE, srcdevice STRING, dstdevice STRING, protocol DOUBLE, dstport STRING, dstbytes DOUBLE
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');

CREATE TABLE web WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE bytes WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE durations WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE ports WITH (connector = 'memory', output_mode = 'complete');

INSERT INTO web
SELECT dstdevice, count(*) AS count FROM flows
WHERE dstport IN ('80', '443') GROUP BY dstdevice ORDER BY count DESC;

INSERT INTO bytes
SELECT srcdevice, sum(dstbytes) AS bytes FROM flows GROUP BY srcdevice;

INSERT INTO durations
SELECT protocol, min(duration) AS shortest, max(duration) AS longest, avg(duration) AS mean, count(*) AS count
FROM flows GROUP BY protocol;

INSERT INTO ports
SELECT dstport, count(*) AS count FROM flows GROUP BY dstport;
