//! Bad jobs, and what is said about them.

use super::{error, job};
use crate::model::Place;

/// Bad jobs with their errors exactly as they are printed.
#[test]
fn bad_jobs_are_refused_in_these_words() {
    for (text, printed) in RENDERED {
        assert_eq!(error(text).to_string(), *printed, "\n{text}");
    }
}

const RENDERED: &[(&str, &str)] = &[
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', pth = 'x', format = 'json');\nSELECT a FROM t;",
        "unknown option 'pth'
  --> a.sql:1:51
   | CREATE TABLE t (a INT) WITH (connector = 'files', pth = 'x', format = 'json');
   |                                                   ^
  why: the source 't' knows no such option
  help: did you mean 'path'?",
    ),
    (
        "CREATE TABLE t (\n  a BIGITN\n) WITH (connector = 'files', path = 'x', format = 'json');",
        "unknown type 'BIGITN'
  --> a.sql:2:5
   |   a BIGITN
   |     ^
  help: did you mean BIGINT? types are STRING, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), DATE, TIMESTAMP, ARRAY<type>, MAP<STRING, type>, STRUCT<name type, ...>",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'json');\nINSERT INTO cuonts SELECT a FROM t;\nCREATE TABLE counts WITH (connector = 'console');",
        "there is no sink 'cuonts'
  --> a.sql:2:13
   | INSERT INTO cuonts SELECT a FROM t;
   |             ^
  help: did you mean 'counts'?",
    ),
    (
        "SELECT a\nFROM t\nWHERE é = ) AND b;",
        "this is not SQL
  --> a.sql:3:11
   | WHERE é = ) AND b;
   |           ^
  why: expected an expression, found )",
    ),
    (
        "SELECT a FROM",
        "this is not SQL
  --> a.sql:1:14
   | SELECT a FROM
   |              ^
  why: expected identifier, found EOF",
    ),
    (
        "SELECT 'a;\nSELECT b",
        "this is not SQL
  --> a.sql:1:8
   | SELECT 'a;
   |        ^
  why: unterminated string literal",
    ),
    (
        "SELECT 1;\nDROP TABLE t;",
        "a job has no DROP statement
  --> a.sql:2:1
   | DROP TABLE t;
   | ^
  help: a job has CREATE TABLE, CREATE VIEW, INSERT INTO ... SELECT, SELECT and SET name = 'value', each ended by ';'",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'json', max_files_per_trigger = 0);",
        "option 'max_files_per_trigger' has a bad value 0
  --> a.sql:1:104
   | CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'json', max_files_per_trigger = 0);
   |                                                                                                        ^
  help: it must be a positive whole number",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', format = 'json', path = 'x',\n  max_files_per_trigger = 1, max_bytes_per_trigger = '16MB');",
        "max_files_per_trigger and max_bytes_per_trigger are both given
  --> a.sql:2:30
   |   max_files_per_trigger = 1, max_bytes_per_trigger = '16MB');
   |                              ^
  why: a batch has one limit
  help: keep one of them",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', format = 'json');",
        "the source 't' has no option 'path'
  --> a.sql:1:14
   | CREATE TABLE t (a INT) WITH (connector = 'files', format = 'json');
   |              ^
  help: add path = 'input'",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'parquet', max_line_bytes = 1);",
        "option 'max_line_bytes' does not belong to format 'parquet'
  --> a.sql:1:83
   | CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'parquet', max_line_bytes = 1);
   |                                                                                   ^
  why: only json or csv or text or regex has it
  help: leave it out, or change the format",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', path = '${PLACE}', format = 'json');",
        "nothing fills ${PLACE}
  --> a.sql:1:59
   | CREATE TABLE t (a INT) WITH (connector = 'files', path = '${PLACE}', format = 'json');
   |                                                           ^
  why: it is not given, not in the environment, and has no default
  help: --set PLACE=...",
    ),
    (
        "CREATE TABLE t (a INT) WITH (connector = 'files', path = './io', format = 'json');\nCREATE TABLE o WITH (connector = 'files', path = 'x/../io/', format = 'json');\nINSERT INTO o SELECT a FROM t;",
        "'t' reads what 'o' writes
  --> a.sql:1:58
   | CREATE TABLE t (a INT) WITH (connector = 'files', path = './io', format = 'json');
   |                                                          ^
  why: each batch would make the input of the next, without end
  help: give the sink a folder of its own",
    ),
    (
        "-- nothing here\n",
        "the job has no query
  --> a.sql
  why: nothing in it says what to compute
  help: add a SELECT, or INSERT INTO a sink SELECT ...",
    ),
];

/// What a job's error says, and the line and column it points at.
#[track_caller]
fn points(text: &str, what: &str, line: u64, column: u64) {
    let error = error(text);
    assert_eq!(error.what(), what, "\n{text}");
    let Some(Place::Job { line: found_line, column: found_column, .. }) = error.place() else {
        panic!("no place: {error}")
    };
    assert_eq!((*found_line, *found_column), (line, column), "\n{error}");
}

#[test]
fn options_of_a_source_are_checked() {
    for (options, what, line, column) in [
        ("connector = 'files', path = 'x', format = 'json', path = 'y'", "option 'path' is given twice", 2, 51),
        ("conector = 'files', path = 'x', format = 'json'", "unknown option 'conector'", 2, 1),
        ("connector = 'kafka'", "option 'connector' has a bad value 'kafka'", 2, 13),
        ("connector = 'memory'", "option 'connector' has a bad value 'memory'", 2, 13),
        ("connector = 'files', path = '', format = 'json'", "option 'path' is empty", 2, 29),
        ("connector = 'files', path = x", "expected a value, found 'x'", 2, 29),
        ("connector = 'files', path = 'x'", "the source 't' has no option 'format'", 1, 14),
        (
            "connector = 'files', path = 'x', format = 'json', clean_source = 'archive'",
            "the source 't' has no option 'archive_dir'",
            1,
            14,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', clean_source = 'archive', archive_dir = 'x/old'",
            "option 'archive_dir' has a bad value 'x/old'",
            2,
            91,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', clean_source = 'delete'",
            "files of 't' would never be cleared away",
            1,
            14,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', event_time = 'a'",
            "option 'event_time' has a bad value 'a'",
            2,
            64,
        ),
        ("connector = 'files', path = 'x', format = 'jsn'", "option 'format' has a bad value 'jsn'", 2, 43),
        (
            "connector = 'files', path = 'x', format = 'json', latest_first = 'yes'",
            "option 'latest_first' has a bad value 'yes'",
            2,
            66,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', max_depth = 0",
            "option 'max_depth' has a bad value 0",
            2,
            63,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', max_depth = -1",
            "option 'max_depth' has a bad value -1",
            2,
            63,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', max_file_age = '0s'",
            "option 'max_file_age' has a bad value '0s'",
            2,
            66,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', corrupt_record_column = 'b'",
            "option 'corrupt_record_column' has a bad value 'b'",
            2,
            75,
        ),
        (
            "connector = 'files', path = 'x', format = 'json', corrupt_record_column = 'a'",
            "column 'a' must be a STRING",
            1,
            17,
        ),
        ("connector = 'files',, path = 'x'", "expected the name of an option, found ','", 2, 21),
    ] {
        points(&format!("CREATE TABLE t (a INT) WITH (\n{options});\nSELECT a FROM t"), what, line, column);
    }
}

#[test]
fn options_of_a_sink_are_checked() {
    for (options, what, line, column) in [
        (
            "connector = 'files', path = 'x', format = 'json', recursive = true",
            "option 'recursive' belongs to a source",
            2,
            51,
        ),
        ("connector = 'console', path = 'x'", "unknown option 'path'", 2, 24),
        ("connector = 'console', late_rows = ' '", "option 'late_rows' is empty", 2, 36),
        ("connector = 'console', output_mode = 'compete'", "option 'output_mode' has a bad value 'compete'", 2, 38),
        ("output_mode = 'append'", "the sink 's' has no option 'connector'", 1, 14),
        ("connector = 'fils'", "option 'connector' has a bad value 'fils'", 2, 13),
    ] {
        points(&format!("CREATE TABLE s WITH (\n{options}); INSERT INTO s SELECT 1"), what, line, column);
    }
}

#[test]
fn names_columns_and_types_of_tables_are_checked() {
    for (text, what, line, column) in [
        ("CREATE TABLE t ();", "the source 't' declares no column", 1, 14),
        ("CREATE TABLE t (a);", "expected the type of the column, found ')'", 1, 18),
        ("CREATE TABLE t (a INT, A INT);", "column 'a' is declared twice", 1, 24),
        ("CREATE TABLE t (a INT NOT NULL);", "expected ',' or ')', found 'NOT'", 1, 23),
        ("CREATE TABLE t (a VARCHAR(10));", "type VARCHAR takes no length or precision", 1, 19),
        ("CREATE TABLE t (a DECIMAL(39, 0));", "there is no DECIMAL(39, 0)", 1, 19),
        ("CREATE TABLE t (a DECIMAL(3, 4));", "there is no DECIMAL(3, 4)", 1, 19),
        ("CREATE TABLE t (a INT) PARTITIONED BY (a);", "expected WITH (...), found 'PARTITIONED'", 1, 24),
        ("CREATE TABLE \"../t\" (a INT);", "'../t' cannot be the name of a table", 1, 14),
        ("CREATE TABLE a.b (a INT);", "expected columns or WITH (...), found '.'", 1, 15),
        ("CREATE TABLE t", "expected columns or WITH (...), found the end of the statement", 1, 15),
    ] {
        points(text, what, line, column);
    }
}

#[test]
fn statements_are_checked() {
    for (text, what, line, column) in [
        ("CREATE EXTERNAL TABLE t (a INT)", "a job creates tables and views only", 1, 1),
        ("CREATE VIEW v AS SELEC 1", "this is not SQL", 1, 18),
        ("{}", "a statement cannot begin like this", 1, 1),
        ("SELECT 1 SELECT 2", "this is not SQL", 1, 10),
        ("VALUES (1)", "a job has no VALUES statement", 1, 1),
        ("SET retain_batch = 1; SELECT 1", "unknown setting 'retain_batch'", 1, 5),
        ("SET retain_batches = 0; SELECT 1", "setting 'retain_batches' has a bad value 0", 1, 22),
        ("SET read_ahead_bytes = 'much'; SELECT 1", "setting 'read_ahead_bytes' has a bad value 'much'", 1, 24),
        ("SET retain_batches = 1; SET retain_batches = 2", "setting 'retain_batches' is given twice", 1, 29),
        ("INSERT OVERWRITE s SELECT 1", "expected INTO, found 'OVERWRITE'", 1, 8),
        ("INSERT INTO s (a) SELECT 1", "expected SELECT, found '('", 1, 15),
        ("INSERT INTO s VALUES (1)", "expected SELECT or WITH, found 'VALUES'", 1, 15),
    ] {
        points(text, what, line, column);
    }
}

#[test]
fn tables_and_queries_must_fit_together() {
    let source = "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'json');\n";
    for (with_source, text, what, line, column) in [
        (true, "INSERT INTO t SELECT 1", "'t' is a source, not a sink", 2, 13),
        (true, "CREATE VIEW T AS SELECT 1", "there is already a table 't'", 2, 13),
        (
            true,
            "CREATE TABLE query1 WITH (connector = 'memory'); INSERT INTO query1 SELECT 1;\nSELECT 1",
            "there is already a table 'query1'",
            3,
            1,
        ),
        (false, "CREATE TABLE s WITH (connector = 'memory'); SELECT 1", "nothing is inserted into 's'", 1, 14),
        (
            false,
            "CREATE TABLE s WITH (connector = 'memory'); INSERT INTO s SELECT 1;\nINSERT INTO s SELECT 2",
            "the sink 's' has two queries",
            2,
            13,
        ),
    ] {
        let before = if with_source { source } else { "" };
        points(&format!("{before}{text}"), what, line, column);
    }
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert_eq!(error(&deep).what(), "this statement is nested too deeply");
}

/// What a format does not have, and what it cannot do with what it was told.
/// What is wrong with a table of these columns and options, and parts of what is said.
type Told = (&'static str, &'static str, &'static [&'static str]);

fn are_told(tables: &[Told]) {
    for (columns, options, parts) in tables {
        let text =
            format!("CREATE TABLE t ({columns}) WITH (connector = 'files', path = 'x', {options}); SELECT 1 FROM t");
        let told = error(&text).to_string();
        for part in *parts {
            assert!(told.contains(part), "no '{part}' in:\n{told}");
        }
    }
}

#[test]
fn formats_of_lines_are_checked() {
    are_told(&[
        (
            "a INT",
            "format = 'json', header = 'true'",
            &["option 'header' does not belong to format 'json'", "only csv has it"],
        ),
        ("a INT", "format = 'csv', pattern = 'x'", &["option 'pattern' does not belong to format 'csv'", "only regex"]),
        ("a INT", "format = 'csv', delimiter = '::'", &["bad value '::'", "one ASCII character"]),
        ("a INT", "format = 'csv', delimiter = ';', quote = ';'", &["delimiter and quote are the same character"]),
        ("a INT", "format = 'csv', timestamp_format = '%Y-%Q'", &["bad value '%Y-%Q'", "strftime"]),
        ("a INT", "format = 'csv', timestamp_format = '%Y-%m-%d %H'", &["needs its hour and minute"]),
        ("a INT", "format = 'csv', timestamp_format = '%Y-%m-%d %I:%M'", &["an hour of twelve (%I) also %p"]),
        ("a INT", "format = 'csv', timestamp_format = '%F %z'", &["needs its hour and minute"]),
        ("a INT", "format = 'csv', timestamp_format = '%F %T %Z'", &["(%Z) does not say which offset"]),
        ("a INT", "format = 'csv', quote = '', escape = '\\'", &["it works inside of quotes"]),
        ("a INT", "format = 'csv', escape = ','", &["delimiter and escape are the same"]),
        ("a STRING", "format = 'text'", &["format 'text' needs the column value STRING", "declare it: (value STRING)"]),
        ("value INT", "format = 'text'", &["format 'text' needs the column value STRING"]),
        ("a INT", "format = 'regex'", &["has no option 'pattern'", "combined_log"]),
        ("a INT", "format = 'regex', pattern = '(?<a>[0-9+'", &["bad value", "unclosed character class"]),
        (
            "a INT",
            "format = 'regex', pattern = '([0-9]+)'",
            &["no group of the pattern has a name", "(?<status>[0-9]+)"],
        ),
        ("a INT", "format = 'regex', pattern = '(?-u)(?<a>.)'", &["bad value", "invalid UTF-8"]),
        ("a INT", "format = 'regex', pattern = '(?x)(?<a>.) # id'", &["must be ended by a line end"]),
        ("sttus INT", "format = 'regex', pattern = '(?<status>.)'", &["no group 'sttus'", "did you mean 'status'?"]),
        (
            "value STRING",
            "format = 'text', file_column = 'value'",
            &["column 'value' cannot hold each line and the file's name"],
        ),
        (
            "a STRING",
            "format = 'json', file_column = 'a', corrupt_record_column = 'a'",
            &["cannot hold unparsable lines and the file's name"],
        ),
        ("_file INT", "format = 'json'", &["column '_file' must be a STRING", "write file_column = ''"]),
        (
            "a INT",
            "format = 'json', file_column = 'b'",
            &["the table declares no such column", "declare the column: b STRING"],
        ),
    ]);
}

#[test]
fn typed_columns_are_checked() {
    are_told(&[
        (
            "a INT",
            "format = 'parquet', delimiter = ';'",
            &["option 'delimiter' does not belong to format 'parquet'", "only csv"],
        ),
        (
            "a STRING",
            "format = 'parquet', corrupt_record_column = 'a'",
            &["option 'corrupt_record_column' does not belong to format 'parquet'"],
        ),
        ("a INT", "format = 'parket'", &["did you mean 'parquet'?"]),
        ("a INT", "format = 'avro', max_line_bytes = 1", &["'max_line_bytes' does not belong to format 'avro'"]),
        ("a ARRAY<INT>", "format = 'csv'", &["format 'csv' has no ARRAY, MAP or STRUCT", "declare a STRING"]),
        ("a ARRAY<INT", "format = 'json'", &["'>'"]),
        ("a ARRAY<INT>>", "format = 'json'", &["a type has one '>' too many"]),
        ("a MAP<INT, INT>", "format = 'json'", &["the keys of a MAP must be STRING"]),
        ("a STRUCT<b INT, b INT>", "format = 'json'", &["field 'b' is declared twice"]),
    ]);
}

/// An error of a pattern does not show what is secret in it.
#[test]
fn a_pattern_keeps_its_secret() {
    let text = "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'regex', pattern = '(?<a>${env:DEPTH}('); SELECT a FROM t";
    let told = error(text).to_string();
    assert!(told.contains("unclosed group") && !told.contains("987"), "{told}");
}

/// Found by fuzzing: SQL's parser tries what is behind each `:=` twice, one inside of the other, up to minutes.
#[test]
fn assignments_inside_of_each_other_are_refused_at_once() {
    let told = error(&format!("SELECT {}", "IN ( S$:=N( S$:= ".repeat(20))).to_string();
    assert!(told.contains("':=' is not taken in a query"), "{told}");
    let deep = format!("SELECT {}1{} AS a FROM t", "(".repeat(24), ")".repeat(24));
    let table = "CREATE TABLE t (a INT) WITH (connector = 'files', path = 'x', format = 'json');";
    assert!(job(&format!("{table} {deep}")).is_ok(), "parentheses alone take no time");
}
