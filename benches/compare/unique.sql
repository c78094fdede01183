-- How often is each device asked? Nearly every flow of `highwater generate flows DIR --unique` asks a device of its
-- own, so that state grows with the input: 5 million groups in 20 files of 250,000 rows.
CREATE TABLE flows (dstdevice STRING)
  WITH (connector = 'files', path = '${INPUT}', format = 'json', max_files_per_trigger = '1');

CREATE TABLE devices WITH (connector = 'memory', output_mode = 'update');

INSERT INTO devices SELECT dstdevice, count(*) AS count FROM flows GROUP BY dstdevice;
