-- The two keys with the most of each window, most first, in append mode: the whole window is there when it is given out.
-- HAVING takes what is alone; of equal ones the first by key is taken.
CREATE TABLE events (k STRING, v BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE counts WITH (
  connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append',
  window_batches = '2', slide_batches = '2'
);
INSERT INTO counts
SELECT k, sum(v) AS v FROM events GROUP BY k HAVING count(*) > 1 ORDER BY v DESC LIMIT 2;
