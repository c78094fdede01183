CREATE TABLE a (x BIGINT) WITH (connector = 'files', path = 'in/${env:SECRET}/''x', format = 'json');
SELECT x, '${Q}', "${N}" FROM a /* ${N} /* nested */ */ -- ${nothing}
;