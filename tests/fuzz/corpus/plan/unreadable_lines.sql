-- Which lines of the input cannot be read? Their text, as it stands in the files. In 'permissive' mode (the default)
-- a line that is no JSON is a row of nulls, one with a field of the wrong type has null there only; the text of both
-- is in _corrupt_record.
--
--   highwater run jobs/unreadable_lines.sql --set INPUT=flows --available-now
CREATE TABLE flows (
  time DOUBLE, _corrupt_record STRING
) WITH (connector = 'files', path = '${INPUT}', format = 'json');

SELECT _corrupt_record AS line FROM flows WHERE _corrupt_record IS NOT NULL;
