//! Who may know what: the rules of the tree, checked against its source text.
//!
//! A violation is named as `file:line: rule`. What has to break a rule is listed in `EXCEPTIONS` with its reason; an
//! exception that is no longer needed fails the test too, so that the list cannot rot.

mod reading;

use std::{fmt, fs, path::Path};

use reading::File;

/// What a module may use of ours, besides itself. `lib.rs` only declares; what is not listed here is a violation.
const MAY_USE: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("job", &["model"]),
    ("state", &["model"]),
    ("progress", &["model"]),
    ("format", &["job", "model"]),
    ("source", &["format", "job", "model"]),
    ("query", &["job", "state", "format", "model"]),
    ("checkpoint", &["job", "state", "model"]),
    ("sink", &["job", "checkpoint::CommitPermit", "model"]),
    ("batch", BELOW_BATCH),
    ("ui", ALL_BUT_CLI),
    ("trial", ALL_BUT_CLI),
    ("fuzzing", ALL_AND_CLI),
    ("cli", ALL_BUT_CLI),
    ("main", &["cli", "model"]),
];
const BELOW_BATCH: &[&str] = &["model", "job", "state", "progress", "format", "source", "query", "checkpoint", "sink"];
const ALL_BUT_CLI: &[&str] =
    &["model", "job", "state", "progress", "format", "source", "query", "checkpoint", "sink", "batch", "ui", "trial"];

/// What only the fuzz targets see, which are in no build that is shipped: all that reads what others wrote.
const ALL_AND_CLI: &[&str] = &["checkpoint", "cli", "format", "job", "model", "query", "state"];

/// One thing that only some files may mention.
struct Ban {
    rule: Rule,
    mentions: &'static [&'static str],
    /// Whether the ban holds in the file with this path (`src/...`) and module.
    holds: fn(path: &str, module: &str) -> bool,
}

/// Names that plan SQL. Everything else of `datafusion` (arrow above all, accumulators, errors) is free to use.
const PLANNER: &[&str] = &[
    "SessionContext",
    "SessionState",
    "SessionConfig",
    "DataFrame",
    "LogicalPlan",
    "LogicalPlanBuilder",
    "ExecutionPlan",
    "datafusion::prelude",
    "datafusion::execution",
    "datafusion::optimizer",
    "datafusion::physical_optimizer",
    "datafusion::physical_plan",
    "datafusion::physical_planner",
    "datafusion::catalog",
    "datafusion::datasource",
];
/// The job file's grammar is DataFusion's, so `job` may parse with it; only `query` plans.
const SQL: &[&str] = &["datafusion::sql"];
const SQL_GRAMMAR: &[&str] = &["datafusion::sql::parser", "datafusion::sql::sqlparser"];

const BANS: [Ban; 6] = [
    Ban { rule: Rule::Sled, mentions: &["sled"], holds: |path, _| path != "src/checkpoint/sled_store.rs" },
    Ban { rule: Rule::Planner, mentions: PLANNER, holds: |_, module| module != "query" },
    Ban { rule: Rule::Planner, mentions: SQL, holds: |_, module| module != "query" },
    Ban {
        rule: Rule::Output,
        mentions: &["println!", "eprintln!", "print!", "eprint!", "io::stdout", "io::stderr", "process::exit"],
        holds: |path, module| module != "cli" && path != "src/main.rs",
    },
    Ban {
        rule: Rule::Clock,
        mentions: &["SystemTime::now", "Instant::now", "Utc::now", "Local::now"],
        holds: |path, _| path != "src/batch/clock.rs",
    },
    Ban {
        rule: Rule::QueryIsPure,
        mentions: &["std::fs", "tokio::fs", "std::time::SystemTime", "std::time::Instant"],
        holds: |_, module| module == "query",
    },
];

const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "TODO", "FIXME", "dbg!"];

const FILE_LINES_MAX: usize = 400;
const MAIN_LINES_MAX: usize = 40;
const FUNCTION_LINES_MAX: usize = 70;

/// What breaks a rule, and why it may.
const EXCEPTIONS: &[Exception] = &[];

struct Exception {
    rule: Rule,
    path: &'static str,
    /// The violation's subject: the module used, the name mentioned, the function; `file` for a long file.
    subject: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Import,
    Sled,
    Planner,
    Output,
    Clock,
    QueryIsPure,
    LongFile,
    LongFunction,
    Unfinished,
}

impl Rule {
    fn says(self) -> &'static str {
        match self {
            Rule::Import => "a module uses only what MAY_USE lists",
            Rule::Sled => "only src/checkpoint/sled_store.rs sees sled",
            Rule::Planner => "only query plans with DataFusion (job may parse with its SQL grammar)",
            Rule::Output => "only cli and main.rs print or exit",
            Rule::Clock => "only src/batch/clock.rs reads the clock; take the time as an argument",
            Rule::QueryIsPure => "query knows no file and no clock",
            Rule::LongFile => "a file has at most 400 lines without its tests, main.rs 40",
            Rule::LongFunction => "a function has at most 70 lines",
            Rule::Unfinished => "nothing is left unfinished",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    rule: Rule,
    path: String,
    /// Counts from 1.
    line: usize,
    subject: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} ({})", self.path, self.line, self.subject, self.rule.says())
    }
}

fn violation(file: &File, rule: Rule, line: usize, subject: impl Into<String>) -> Violation {
    Violation { rule, path: file.path.clone(), line, subject: subject.into() }
}

fn imports(file: &File) -> Vec<Violation> {
    let module = file.module();
    if module == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
        return vec![violation(file, Rule::Import, 1, format!("module {module} is not listed"))];
    };
    let root = if module == "main" { "highwater" } else { "crate" };
    let within = |path: &str, of: &str| path == of || path.starts_with(&format!("{of}::"));
    file.paths(root)
        .into_iter()
        .filter(|(_, path)| !within(path, module) && !allowed.iter().any(|other| within(path, other)))
        .map(|(line, path)| violation(file, Rule::Import, line, path))
        .collect()
}

fn banned(file: &File) -> Vec<Violation> {
    let mut found = Vec::new();
    for ban in BANS.iter().filter(|ban| (ban.holds)(&file.path, file.module())) {
        for name in ban.mentions {
            for (line, mention) in file.mentions(name) {
                let grammar = SQL_GRAMMAR.iter().any(|allowed| mention.starts_with(allowed));
                if !(file.module() == "job" && grammar) {
                    found.push(violation(file, ban.rule, line, *name));
                }
            }
        }
    }
    found
}

fn lengths(file: &File) -> Vec<Violation> {
    let max = if file.path == "src/main.rs" { MAIN_LINES_MAX } else { FILE_LINES_MAX };
    let lines = file.production_lines();
    let long_file = (lines > max).then(|| violation(file, Rule::LongFile, lines, "file"));
    let long_functions = file.functions().into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    long_file
        .into_iter()
        .chain(long_functions.map(|function| violation(file, Rule::LongFunction, function.start, function.name)))
        .collect()
}

fn unfinished(file: &File) -> Vec<Violation> {
    let mark = |name: &'static str| {
        reading::words(&file.text, name).into_iter().map(move |line| violation(file, Rule::Unfinished, line, name))
    };
    UNFINISHED.into_iter().flat_map(mark).collect()
}

fn violations(file: &File) -> Vec<Violation> {
    [imports(file), banned(file), lengths(file), unfinished(file)].into_iter().flatten().collect()
}

/// Violations that no exception covers, and exceptions that cover none or give no reason.
fn judged(violations: &[Violation], exceptions: &[Exception]) -> Vec<String> {
    let covers = |exception: &Exception, violation: &Violation| {
        exception.rule == violation.rule && exception.path == violation.path && exception.subject == violation.subject
    };
    let open = violations.iter().filter(|violation| !exceptions.iter().any(|exception| covers(exception, violation)));
    let dead = exceptions.iter().filter(|exception| !violations.iter().any(|violation| covers(exception, violation)));
    let silent = exceptions.iter().filter(|exception| exception.reason.is_empty());
    let named = |exception: &Exception| format!("{}, {:?}, {}", exception.path, exception.rule, exception.subject);
    open.map(Violation::to_string)
        .chain(dead.map(|exception| format!("no longer needed in EXCEPTIONS: {}", named(exception))))
        .chain(silent.map(|exception| format!("no reason in EXCEPTIONS: {}", named(exception))))
        .collect()
}

/// All Rust files under `src`, by path.
fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src can be listed") {
            let path = entry.expect("src can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file can be read");
                let name = path.strip_prefix(root).expect("it is under the root").to_string_lossy().into_owned();
                files.push(File::new(&name, &text));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

#[test]
fn the_tree_keeps_its_rules() {
    let files = tree();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "src was read");
    let found: Vec<Violation> = files.iter().flat_map(violations).collect();
    let problems = judged(&found, EXCEPTIONS);
    assert!(problems.is_empty(), "{} violations:\n{}", problems.len(), problems.join("\n"));
}

/// The violations of a file with this path and text, as `line subject`.
fn found(path: &str, text: &str) -> Vec<String> {
    violations(&File::new(path, text)).iter().map(|v| format!("{} {}", v.line, v.subject)).collect()
}

#[test]
fn an_import_against_the_table_is_found() {
    assert_eq!(found("src/job/spec.rs", "\nuse crate::model::Place;\nuse crate::query::Plan;\n"), ["3 query::Plan"]);
    assert_eq!(
        found("src/sink/files.rs", "use crate::{\n    checkpoint::{CommitPermit, Log},\n};\n"),
        ["2 checkpoint::Log"]
    );
    assert_eq!(found("src/model/ids.rs", "fn f() { super::super::job::parse() }\n"), ["1 job::parse"]);
    assert_eq!(found("src/model/mod.rs", "use super::job;\n"), ["1 job"]);
    assert_eq!(found("src/trial/demo.rs", "use crate::cli::run;\nuse crate::batch::run;\n"), ["1 cli::run"]);
    assert_eq!(found("src/main.rs", "use highwater::{cli, batch};\n"), ["1 batch"]);
    assert_eq!(found("src/extra/mod.rs", ""), ["1 module extra is not listed"]);
}

#[test]
fn a_module_may_use_itself_and_tests_may_use_anything() {
    assert!(found("src/job/spec.rs", "use crate::job::options;\nuse super::parse;\n").is_empty());
    assert!(found("src/job/spec.rs", "#[cfg(test)]\nmod tests {\n    use crate::query::Plan;\n}\n").is_empty());
    assert!(
        found("src/job/spec.rs", "//! As [`crate::query`] plans it.\nconst A: &str = \"crate::cli\";\n").is_empty()
    );
}

#[test]
fn sled_outside_its_file_is_found() {
    let text = "use sled::Db;\n";
    assert_eq!(found("src/checkpoint/log.rs", text), ["1 sled"]);
    assert!(found("src/checkpoint/sled_store.rs", text).is_empty());
    assert!(found("src/checkpoint/mod.rs", "mod sled_store;\n").is_empty());
}

#[test]
fn planning_outside_query_is_found() {
    let text = "use datafusion::{\n    arrow::array::ArrayRef,\n    physical_plan::collect,\n};\n\
                fn f(c: &SessionContext) {}\n";
    assert_eq!(found("src/state/keyed.rs", text), ["5 SessionContext", "3 datafusion::physical_plan"]);
    assert!(found("src/query/plan.rs", text).is_empty());
}

#[test]
fn job_may_parse_but_not_plan() {
    let text = "use datafusion::sql::{parser::DFParser, planner::SqlToRel, sqlparser::ast};\n";
    assert_eq!(found("src/job/parse.rs", text), ["1 datafusion::sql"]);
    assert_eq!(found("src/sink/files.rs", text).len(), 3);
}

#[test]
fn printing_and_exiting_outside_cli_is_found() {
    let text = "fn f() {\n    println!();\n    eprint!();\n    std::process::exit(1);\n    std::io::stdout();\n}\n";
    let expected = ["2 println!", "3 eprint!", "5 io::stdout", "4 process::exit"];
    assert_eq!(found("src/batch/run.rs", text), expected);
    assert_eq!(found("src/batch/run.rs", "use std::process::{self, exit};\n"), ["1 process::exit"]);
    assert!(found("src/cli/run.rs", text).is_empty());
    assert!(found("src/trial/child.rs", "fn f(c: &mut Command) { c.stdout(Stdio::null()); }\n").is_empty());
}

#[test]
fn a_clock_outside_its_file_is_found() {
    let text = "fn f() { (std::time::SystemTime::now(), Instant::now(), chrono::Utc::now()); }\n";
    assert_eq!(found("src/source/files.rs", text), ["1 SystemTime::now", "1 Instant::now", "1 Utc::now"]);
    assert!(found("src/batch/clock.rs", text).is_empty());
}

#[test]
fn a_file_or_a_clock_in_query_is_found() {
    let text = "use std::{\n    fs::File,\n    time::{Duration, Instant},\n};\n";
    assert_eq!(found("src/query/plan.rs", text), ["2 std::fs", "3 std::time::Instant"]);
    assert!(found("src/source/files.rs", text).is_empty());
}

#[test]
fn length_counts_up_to_the_tests() {
    assert_eq!(found("src/job/a.rs", &"\n".repeat(401)), ["401 file"]);
    assert_eq!(found("src/main.rs", &"\n".repeat(41)), ["41 file"]);
    assert!(found("src/job/a.rs", &("\n".repeat(400) + "#[cfg(test)]\nmod tests {\n}\n")).is_empty());
    let function = |body: usize| format!("\n    pub(crate) async fn long(\n{}    }}\n", "        x\n".repeat(body));
    assert_eq!(found("src/job/a.rs", &function(69)), ["2 long"]);
    assert!(found("src/job/a.rs", &function(68)).is_empty());
}

#[test]
fn unfinished_work_is_found_in_code_comments_and_tests() {
    // spelled in parts, so that a search for these marks finds real ones only
    let mark = ["TO", "DO"].concat();
    let text =
        format!("// {mark}: more\n#[cfg(test)]\nmod tests {{\n    fn f() {{ {}!() }}\n}}\n", mark.to_lowercase());
    assert_eq!(found("src/job/a.rs", &text), [format!("4 {}!", mark.to_lowercase()), format!("1 {mark}")]);
    assert!(found("src/job/a.rs", "// todos and dbgs\n").is_empty());
}

#[test]
fn an_exception_covers_its_violation_and_must_be_needed() {
    let found = violations(&File::new("src/job/a.rs", "use crate::query::Plan;\n"));
    let exception = |subject, reason| Exception { rule: Rule::Import, path: "src/job/a.rs", subject, reason };
    assert_eq!(judged(&found, &[]).len(), 1);
    assert!(judged(&found, &[exception("query::Plan", "because")]).is_empty());
    let dead = judged(&found, &[exception("query::Plan", "because"), exception("cli", "because")]);
    assert_eq!(dead, ["no longer needed in EXCEPTIONS: src/job/a.rs, Import, cli"]);
    let silent = judged(&found, &[exception("query::Plan", "")]);
    assert_eq!(silent, ["no reason in EXCEPTIONS: src/job/a.rs, Import, query::Plan"]);
}
