//! What people get wrong in SQL, and what they are told: one sentence, the place, the way out; never the engine's words.

use super::{INPUT, fixture_of};
use crate::binary::{Ended, Folder};

/// A job of this query over a source with a column of each type.
fn job(query: &str) -> String {
    format!(
        "CREATE TABLE flows (name STRING, port STRING, bytes BIGINT, rate DOUBLE, at TIMESTAMP, day DATE, ok BOOLEAN)\n  \
         WITH (connector = 'files', path = 'input', format = 'json', max_files_per_trigger = '1');\n{query};\n"
    )
}

/// Query, what is wrong, the column that the caret is in (line 3), and a part of the help.
const MISTAKES: &[(&str, &str, usize, &str)] = &[
    // types
    ("SELECT name FROM flows WHERE rate = 'abc'", "'abc' is no DOUBLE", 37, "CAST(rate AS STRING)"),
    ("SELECT name FROM flows WHERE bytes IN (1, 'b')", "'b' is no BIGINT", 43, "without quotes"),
    ("SELECT name FROM flows WHERE rate BETWEEN 'a' AND 'b'", "'a' is no DOUBLE", 43, "without quotes"),
    ("SELECT name FROM flows WHERE at > 'yesterday'", "'yesterday' is no TIMESTAMP", 35, "'2024-01-31 12:00:00'"),
    ("SELECT name FROM flows WHERE day = '2024-13-45'", "'2024-13-45' is no DATE", 36, "'2024-01-31'"),
    ("SELECT CASE bytes WHEN 'a' THEN 1 END FROM flows", "'a' is no BIGINT", 24, "without quotes"),
    ("SELECT CAST('abc' AS BIGINT) FROM flows", "'abc' is no BIGINT", 13, "without quotes"),
    ("SELECT CAST(name AS BIGNIT) FROM flows", "unknown type 'BIGNIT'", 21, "BIGINT"),
    ("SELECT at - INTERVAL '1 foo' FROM flows", "'1 foo' is no INTERVAL", 22, "INTERVAL '1 hour'"),
    ("SELECT name FROM flows WHERE ok + 1 > 2", "+ does not go with BOOLEAN and BIGINT", 30, "CAST"),
    ("SELECT name, at + 1 FROM flows", "+ does not go with TIMESTAMP and BIGINT", 14, "at + INTERVAL"),
    ("SELECT 'a' + 'b' FROM flows", "+ does not go with STRING and STRING", 8, "'a' || 'b'"),
    ("SELECT NOT bytes FROM flows", "NOT takes a BOOLEAN, and bytes is a BIGINT", 12, "compare it"),
    ("SELECT name FROM flows WHERE name", "WHERE takes a condition, and name is a STRING", 30, "compare it"),
    ("SELECT name FROM flows WHERE name LIKE 3", "LIKE takes STRINGs, and this is a STRING and a BIGINT", 30, "quotes"),
    ("SELECT name.first FROM flows", "column 'name' is a STRING and has no fields", 8, ""),
    ("SELECT name['a'] FROM flows", "[...] cannot be used on name, which is a STRING", 8, "select it whole"),
    // functions
    ("SELECT sum(name) FROM flows", "sum() does not take a STRING", 8, "sum(TRY_CAST(name AS DOUBLE))"),
    ("SELECT abs(bytes), abs(name) FROM flows", "abs() does not take a STRING", 20, "abs(TRY_CAST(name AS DOUBLE))"),
    ("SELECT avg(at) FROM flows", "avg() does not take a TIMESTAMP", 8, ""),
    ("SELECT substr(name, 1, 2, 3) FROM flows", "substr() takes 2 or 3 arguments, not 4", 8, ""),
    ("SELECT substr(name) FROM flows", "substr() takes 2 or 3 arguments, not 1", 8, ""),
    ("SELECT upper(name, 2) FROM flows", "upper() takes 1 argument, not 2", 8, ""),
    ("SELECT sum() FROM flows", "sum() takes an argument, and here is none", 8, ""),
    ("SELECT sum(*) FROM flows", "sum() does not take *", 8, ""),
    ("SELECT name, cont(*) FROM flows GROUP BY name", "unknown function 'cont'", 14, "'count'"),
    ("SELECT cnt(*) FROM flows", "unknown function 'cnt'", 8, "'count'"),
    ("SELECT average(rate) FROM flows", "unknown function 'average'", 8, "'avg'"),
    ("SELECT window(at) FROM flows", "window() does not take a TIMESTAMP", 8, ""),
    ("SELECT * FROM read_csv('x')", "there is no table function 'read_csv'", 15, "CREATE TABLE"),
    // groups
    ("SELECT *, count(*) FROM flows", "* stands for columns that are no group keys: 'name'", 8, "GROUP BY"),
    ("SELECT name, port, count(*) FROM flows GROUP BY name", "column 'port' is no group key", 14, "max(port)"),
    ("SELECT name FROM flows WHERE count(*) > 1", "count(*) cannot stand in WHERE", 30, "HAVING"),
    ("SELECT name, count(*) FROM flows GROUP BY nam", "unknown column 'nam'", 43, "'name'"),
    ("SELECT name FROM flows HAVING bytes > 3", "HAVING without groups", 24, "WHERE"),
    ("SELECT sum(count(*)) FROM flows", "count(*) stands inside another aggregate", 12, "sink of its own"),
    ("SELECT name FROM flows GROUP BY name, sum(bytes)", "sum(bytes) cannot be a group key", 39, "leave it out"),
    ("SELECT name, count(*) FROM flows GROUP BY 3", "GROUP BY 3: the query has 2 columns", 43, "1 to 2"),
    ("SELECT name, bytes FROM flows ORDER BY 5", "ORDER BY 5: the query has 2 columns", 40, "1 to 2"),
    (
        "SELECT name, count(*) FROM flows GROUP BY name ORDER BY cnt",
        "unknown column 'cnt'",
        57,
        "columns here are: name, count(*)",
    ),
    // names
    ("SELECT f.name FROM flows x", "unknown table 'f'", 8, "reads x"),
    ("SELECT flow.name FROM flows", "unknown table 'flow'", 8, "'flows'"),
    ("SELECT x.* FROM flows", "unknown table 'x'", 8, "flows"),
    ("SELECT name FROM default.flows", "unknown table 'default.flows'", 18, "'flows'"),
    ("SELECT bytes AS b FROM flows WHERE b > 1", "unknown column 'b'", 36, "repeat the expression"),
    ("SELECT name FROM flows WHERE name = \"abc\"", "unknown column 'abc'", 37, "single quotes: 'abc'"),
    ("SELECT _corrupt_record FROM flows", "unknown column '_corrupt_record'", 8, "_corrupt_record STRING"),
    ("SELECT name, name FROM flows", "two columns of the result have the same name", 14, "AS name"),
    (
        "WITH w AS (SELECT upper(name) AS u FROM flows)\nSELECT u + true FROM w",
        "+ does not go with STRING and BOOLEAN",
        8,
        "CAST",
    ),
    // what is no SQL here
    ("SELECT name FROM flows WHER bytes > 3", "this is not SQL", 24, "WHERE"),
    ("SELECT name, count(*) FROM flows GROPU BY name", "this is not SQL", 34, "GROUP"),
    ("SELECT name, count(*) FROM flows GROUP name", "this is not SQL", 34, "GROUP BY"),
    ("SELECT name count(*) FROM flows GROUP BY name", "this is not SQL", 13, "comma"),
    ("SELECT name FORM flows", "this is not SQL", 13, "FROM"),
    ("SELECT name FROM flows WHERE bytes > AND rate < 2", "this is not SQL", 38, "missing"),
    ("SELECT count(*) FILTER (bytes > 1) FROM flows", "this is not SQL", 25, "FILTER (WHERE"),
    ("SELEC name FROM flows", "a job has no SELEC statement", 1, "SELECT"),
    ("SELECT TOP 5 name FROM flows", "TOP is not known here", 8, "LIMIT"),
    (
        "SELECT name FROM flows WHERE name IS DISTINCT FROM 'a' AND port = 1",
        "IS DISTINCT FROM stands before AND or OR without parentheses",
        30,
        "(a IS DISTINCT FROM b) AND",
    ),
    ("SELECT name FROM flows TABLESAMPLE (10)", "TABLESAMPLE is not built in", 18, "WHERE"),
    (
        "SELECT name FROM flows UNION ALL SELECT name, port FROM flows",
        "the queries of a UNION have different numbers of columns",
        24,
        "as many",
    ),
];

/// Words that only the engine's authors know.
const INSIDE: [&str; 18] = [
    "DataFusion",
    "datafusion",
    "Internal error",
    "Schema error",
    "Error during planning",
    "Cast error",
    "Arrow",
    "Utf8",
    "Int64",
    "Float64",
    "Date32",
    "Signature",
    "DataType",
    "{",
    "LogicalPlan",
    "Expr",
    "Column(",
    "cannot be planned",
];

#[track_caller]
fn is_sober(said: &str, query: &str) {
    // the query itself may say anything
    let told: Vec<&str> = said.lines().filter(|line| !line.starts_with("   |")).collect();
    for word in INSIDE {
        assert!(!told.iter().any(|line| line.contains(word)), "{word}: {query}: {said}");
    }
}

#[test]
fn typical_mistakes_are_told_in_the_words_of_job_files_where_they_stand() {
    for (query, what, column, help) in MISTAKES {
        let folder = Folder::new(&job(query));
        let ended = folder.call(&["check", "job.sql"]).expect(2);
        let said = &ended.stderr;
        assert!(said.starts_with(&format!("error: {what}\n")), "{query}: {said}");
        let line = 3 + query.matches('\n').count();
        assert!(said.contains(&format!("--> job.sql:{line}:{column}\n")), "{query}: {said}");
        let helps: Vec<&str> = said.lines().filter(|line| line.starts_with("  help: ")).collect();
        assert!(help.is_empty() || helps.iter().any(|line| line.contains(help)), "{query}: no '{help}' in {said}");
        is_sober(said, query);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2, "the job and its input: {query}");
    }
}

/// Runs a job over what is there.
#[track_caller]
fn run(folder: &Folder, options: &[&str]) -> Ended {
    let words = ["run", "job.sql", "--checkpoint", "checkpoint", "--available-now", "--output", "csv"];
    folder.call(&[&words[..], options].concat())
}

#[track_caller]
fn batches(folder: &Folder) -> usize {
    folder.call(&["log", "checkpoint", "--json"]).expect(0).stdout.lines().count()
}

/// An expression that a value of the third file makes fail.
struct Failing {
    /// What is selected.
    items: &'static str,
    /// Its part that fails, as the query has it.
    part: &'static str,
    why: &'static str,
    help: &'static str,
    /// What the query is changed to; `None`: it goes into state, which may not change.
    mended: Option<&'static str>,
}

const FAILING: [Failing; 4] = [
    Failing {
        items: "CAST(port AS BIGINT) AS n",
        part: "CAST(",
        why: "'x' is no BIGINT",
        help: "TRY_CAST(port AS BIGINT)",
        mended: Some("TRY_CAST(port AS BIGINT) AS n"),
    },
    Failing {
        items: "10 / bytes AS n",
        part: "10 /",
        why: "it divides by zero",
        help: "10 / NULLIF(bytes, 0)",
        mended: Some("10 / NULLIF(bytes, 0) AS n"),
    },
    Failing {
        items: "sum(bytes) AS n, 10 / sum(bytes) AS m",
        part: "10 /",
        why: "it divides by zero",
        help: "10 / NULLIF(sum(bytes), 0)",
        mended: Some("sum(bytes) AS n, 10 / NULLIF(sum(bytes), 0) AS m"),
    },
    Failing {
        items: "sum(10 / bytes) AS n",
        part: "10 /",
        why: "it divides by zero",
        help: "mend the input",
        mended: None,
    },
];

fn selecting(items: &str) -> String {
    let groups = if items.starts_with("sum") { " GROUP BY name" } else { "" };
    let select = format!("INSERT INTO out SELECT name, {items} FROM flows{groups}");
    // a sink that takes rows after each batch: for one that does not, what is above the aggregate is computed by `show`
    let sink = "CREATE TABLE out WITH (connector = 'files', path = 'output', format = 'json', output_mode = 'update')";
    job(&format!("{sink};\n{select}"))
}

fn row(name: &str, port: &str, bytes: u64) -> Vec<u8> {
    format!("{{\"name\":\"{name}\",\"port\":\"{port}\",\"bytes\":{bytes}}}\n").into_bytes()
}

/// A job that has failed on the third of three files, twice in the same way.
#[track_caller]
fn failed(failing: &Failing) -> Folder {
    let sql = selecting(failing.items);
    let folder = Folder::new(&sql);
    for (number, (name, port, bytes)) in [("a", "80", 1), ("b", "81", 2), ("c", "x", 0)].into_iter().enumerate() {
        folder.input(number, &row(name, port, bytes));
    }
    let column = sql.lines().nth(3).and_then(|line| line.find(failing.part)).expect("it is there") + 1;
    let place = format!("--> job.sql:4:{column}\n");
    for _ in 0..2 {
        let said = run(&folder, &[]).expect(4).stderr;
        let parts =
            ["query 'out' cannot compute ", &place, failing.why, "in batch 2, of 0002.json", "help: ", failing.help];
        for part in parts {
            assert!(said.contains(part), "{}: no '{part}' in {said}", failing.items);
        }
        is_sober(&said, failing.items);
        assert_eq!(batches(&folder), 2, "what is committed stays");
    }
    folder
}

#[track_caller]
fn is_whole(folder: &Folder) {
    assert_eq!(batches(folder), 3);
    let shown = folder.call(&["show", "checkpoint", "--output", "csv"]).expect(0);
    assert_eq!(shown.lines().len(), 4, "{}", shown.stdout);
    folder.call(&["verify", "checkpoint"]).expect(0);
}

#[test]
fn a_job_that_failed_on_a_value_goes_on_once_the_input_is_mended() {
    for failing in &FAILING {
        let folder = failed(failing);
        folder.input(2, &row("c", "82", 5));
        run(&folder, &[]).expect(0);
        is_whole(&folder);
        folder.call(&["verify", "checkpoint", "--batch", "--every"]).expect(0);
    }
}

#[test]
fn a_job_that_failed_on_a_value_goes_on_once_the_query_is_mended() {
    for failing in &FAILING {
        let folder = failed(failing);
        let Some(mended) = failing.mended else {
            // what is in the state cannot be changed
            folder.write("job.sql", selecting("sum(10 / NULLIF(bytes, 0)) AS n").as_bytes());
            run(&folder, &["--accept-change"]).expect(3);
            continue;
        };
        folder.write("job.sql", selecting(mended).as_bytes());
        run(&folder, &[]).expect(3);
        run(&folder, &["--accept-change"]).expect(0);
        is_whole(&folder);
    }
}

/// What fails on whatever is read is a mistake of the job, not of the data.
#[test]
fn an_expression_that_can_never_be_computed_is_a_usage_error() {
    let folder = fixture_of(&job("SELECT name, 1 / 0 AS n FROM flows"));
    assert_eq!(INPUT.len(), 4, "there is input");
    let ended = run(&folder, &[]).expect(2);
    assert!(ended.stderr.contains("cannot compute 1 / 0\n  --> job.sql:3:14\n"), "{}", ended.stderr);
    assert_eq!(batches(&folder), 0);
}

#[test]
fn sql_over_results_is_told_the_same_way() {
    let folder = super::finished();
    for (sql, what, help) in [
        ("SELECT cont(*) FROM counts", "unknown function 'cont'\n  --> --sql:1:8", "'count'"),
        (
            "SELECT sum(device) FROM counts",
            "sum() does not take a STRING\n  --> --sql:1:8",
            "TRY_CAST(device AS DOUBLE)",
        ),
        ("SELECT * FROM cuonts", "unknown table 'cuonts'\n  --> --sql:1:15", "'counts'"),
    ] {
        let ended = folder.call(&["show", "checkpoint", "--sql", sql]).expect(2);
        let said = &ended.stderr;
        assert!(said.contains(&format!("error: {what}\n")) && said.contains(help), "{sql}: {said}");
        is_sober(said, sql);
    }
}
