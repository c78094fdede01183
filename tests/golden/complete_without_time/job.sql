-- Counts in complete mode, with no event time at all: the whole result, every batch, in its order.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE few WITH (
  connector = 'files', path = '${OUTPUT}/few', format = 'json', output_mode = 'complete'
);
INSERT INTO few
SELECT k, sum(v) AS v FROM events GROUP BY k ORDER BY v DESC LIMIT 2;
