-- Update mode without an event time: the groups that received rows, the null one too; a batch without rows gives
-- none.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE few WITH (
  connector = 'files', path = '${OUTPUT}/few', format = 'json', output_mode = 'update'
);
INSERT INTO few
SELECT k, sum(v) AS v FROM events GROUP BY k;
