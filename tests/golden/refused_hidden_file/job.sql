-- Two tables that both have the column _file: which of them is meant must be said.
CREATE TABLE events (k STRING) WITH (connector = 'files', path = '${INPUT}/events', format = 'json');
CREATE TABLE others (k STRING) WITH (connector = 'files', path = '${INPUT}/others', format = 'json');
CREATE TABLE counts WITH (connector = 'files', path = '${OUTPUT}/counts', format = 'json', output_mode = 'append');
INSERT INTO counts SELECT events.k, _file FROM events JOIN others ON events.k = others.k;
