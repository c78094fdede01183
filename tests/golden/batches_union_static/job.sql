-- UNION ALL of two sources and a static table below, HAVING above: the rows of the last two batches, whichever source
-- they are from.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE others (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/others', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE names (k STRING, name STRING) WITH (
  connector = 'files', path = '${INPUT}/names', format = 'json', static = 'true'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'complete',
  window_batches = '2'
);
INSERT INTO counts
SELECT name, sum(v) AS v FROM (SELECT k, v FROM events UNION ALL SELECT k, v FROM others) AS both_of
JOIN names ON both_of.k = names.k GROUP BY name HAVING sum(v) > 1;
