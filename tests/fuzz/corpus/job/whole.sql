-- Which devices are web servers?
CREATE TABLE flows (
  time DOUBLE, dstdevice STRING, "DstPort" TEXT, amount DECIMAL(10, 2), day DATE, at TIMESTAMP,
  _corrupt_record STRING
) WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1',
  'latest_first' = true, max_file_age = '7 days', max_line_bytes = '1MB', mode = 'FailFast', max_bad_records = 0);
CREATE TABLE counts WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE Out WITH (connector = 'files', path = 'out/${DAY:-today}', format = 'csv');
SET retain_batches = '100';
SET snapshot_batches = 8;
CREATE VIEW web AS SELECT * FROM flows WHERE "DstPort" IN ('80', '443');
INSERT INTO counts
SELECT dstdevice, count(*) AS count FROM web GROUP BY dstdevice -- all of them
;
SELECT 1 FROM flows; ;
INSERT INTO OUT WITH x AS (SELECT 1) SELECT * FROM x;
(SELECT 2 FROM flows)