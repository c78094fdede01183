-- Four queries with their own modes over one source. A late row is counted by each operator that drops it; the
-- complete query and the one that has nothing to do with time take it. The complete query gives its result in
-- every batch.
CREATE TABLE events (k STRING, v BIGINT, ts TIMESTAMP) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1',
  event_time = 'ts', watermark_delay = '10 seconds'
);
CREATE TABLE ap WITH (
  connector = 'files', path = '${OUTPUT}/ap', format = 'json', output_mode = 'append'
);
CREATE TABLE up WITH (
  connector = 'files', path = '${OUTPUT}/up', format = 'json', output_mode = 'update'
);
CREATE TABLE co WITH (
  connector = 'files', path = '${OUTPUT}/co', format = 'json', output_mode = 'complete'
);
CREATE TABLE bykey WITH (
  connector = 'files', path = '${OUTPUT}/bykey', format = 'json', output_mode = 'update'
);
INSERT INTO ap SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
INSERT INTO up SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
INSERT INTO co SELECT window.start AS opens, count(*) AS n FROM events GROUP BY window(ts, '10 seconds');
INSERT INTO bykey SELECT k, count(*) AS n FROM events GROUP BY k;
