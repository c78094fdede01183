-- Elements and fields of a column that is named with its table, also where another column is called as the table.
CREATE TABLE t (t STRUCT<a ARRAY<BIGINT>>, a ARRAY<BIGINT>, m MAP<STRING, BIGINT>) WITH (
  connector = 'files', path = '${INPUT}/t', format = 'json', max_files_per_trigger = '1'
);
CREATE TABLE parts WITH (connector = 'files', path = '${OUTPUT}/parts', format = 'json', output_mode = 'append');
INSERT INTO parts SELECT t.a[1] AS own, t.m['k'] AS value, t.t['a'][2] AS field FROM t;
