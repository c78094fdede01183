-- Every source has a column _file that it does not declare: the name of the file. A query that names it gets it, alone or with
-- the name of its table, in every clause; * leaves it out; a CTE and a table that declares it stand before it.
CREATE TABLE events (k STRING, n BIGINT) WITH (
  connector = 'files', path = '${INPUT}/events', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE others (k STRING) WITH (
  connector = 'files', path = '${INPUT}/others', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE names (k STRING, name STRING) WITH (connector = 'files', path = '${INPUT}/names', format = 'json', static = 'true');
CREATE VIEW named AS SELECT *, _file AS came_in FROM events;
CREATE TABLE plain WITH (connector = 'files', path = '${OUTPUT}/plain', format = 'json', output_mode = 'append');
CREATE TABLE beside WITH (connector = 'files', path = '${OUTPUT}/beside', format = 'json', output_mode = 'append');
CREATE TABLE by_file WITH (connector = 'files', path = '${OUTPUT}/by_file', format = 'json', output_mode = 'complete');
CREATE TABLE of_cte WITH (connector = 'files', path = '${OUTPUT}/of_cte', format = 'json', output_mode = 'append');
CREATE TABLE of_view WITH (connector = 'files', path = '${OUTPUT}/of_view', format = 'json', output_mode = 'append');
CREATE TABLE joined WITH (connector = 'files', path = '${OUTPUT}/joined', format = 'json', output_mode = 'append');
CREATE TABLE of_static WITH (connector = 'files', path = '${OUTPUT}/of_static', format = 'json', output_mode = 'append');
CREATE TABLE both WITH (connector = 'files', path = '${OUTPUT}/both', format = 'json', output_mode = 'append');
INSERT INTO plain SELECT * FROM events;
INSERT INTO beside SELECT *, _file FROM events WHERE _file <> '2.json';
INSERT INTO by_file SELECT e._FILE AS file, sum(n) AS n FROM events e GROUP BY e._file HAVING max(_file) < '3' ORDER BY file DESC;
INSERT INTO of_cte WITH events AS (SELECT k, _file AS f FROM events) SELECT * FROM events;
INSERT INTO of_view SELECT * FROM named;
INSERT INTO joined SELECT a.k, a._file AS left_file, b._file AS right_file FROM events a JOIN others b ON a.k = b.k;
INSERT INTO of_static SELECT e.*, name, names._file FROM events AS e JOIN names ON e.k = names.k;
INSERT INTO both SELECT x, file FROM (SELECT k AS x, _file AS file FROM events UNION ALL SELECT k, _file FROM others);
