CREATE TABLE a (x BIGINT) WITH (connector = 'files', path = 'in', format = 'json', max_line_bytes = '${env:SECRET}', mode = 'x${env:SECRET}');
SELECT x FROM a;