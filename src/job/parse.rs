//! A job file, read statement by statement and put together.

use std::{collections::BTreeMap, path::PathBuf};

use datafusion::sql::sqlparser::{ast::Statement, tokenizer::Token};

use super::{
    connectors,
    names::{nearest, suggestion},
    options::{self, Setting},
    overlap,
    sink::{SinkConnector, SinkSpec},
    spec::{At, JobSpec, QuerySpec, Settings, SourceSpec, ViewSpec},
    substitute::{Variables, fill},
    table::{self, Table},
    tokens::{Cursor, Name, Source, begins_query, statements, tokenize},
    values::{parse_positive, parse_size},
};
use crate::model::{Error, Place, Result, WatermarkPolicy};

const ALLOWED: &str =
    "a job has CREATE TABLE, CREATE VIEW, INSERT INTO ... SELECT, SELECT and SET name = 'value', each ended by ';'";

/// Longest name of a table: it becomes part of file names, which hold 255 bytes.
const NAME_BYTES_MAX: usize = 100;

/// Reads a job.
///
/// `file` is what errors call it, `name` the stem of its file name, `template` its text.
///
/// # Errors
/// Of kind `Usage`, with the place and what to write instead.
pub fn parse(file: &str, name: &str, template: &str, variables: &Variables) -> Result<JobSpec> {
    let filled = fill(file, template, variables)?;
    let source = Source { file, text: &filled.text, secrets: &filled.secrets };
    let lexemes = tokenize(source)?;
    let mut parts = Parts::new(source);
    for statement in statements(&lexemes) {
        parts.statement(Cursor::new(source, statement))?;
    }
    let Assembled { sources, statics, views, sinks, queries, settings } = parts.assemble()?;
    Ok(JobSpec {
        name: name.to_owned(),
        file: file.to_owned(),
        template: template.to_owned(),
        variables: filled.variables,
        text: filled.text,
        sources,
        statics,
        views,
        sinks,
        queries,
        settings,
    })
}

/// Checks that a table's name can be part of a file name, whatever it is quoted in.
pub(super) fn check_table_name(source: Source<'_>, name: &Name) -> Result<()> {
    let good = !name.text.is_empty()
        && name.text.len() <= NAME_BYTES_MAX
        && name.text.chars().all(|c| c.is_alphanumeric() || c == '_');
    if good {
        return Ok(());
    }
    Err(source
        .error(name.at, format!("'{}' cannot be the name of a table", name.text))
        .because("names of tables become part of file names")
        .help(format!("use letters, digits and '_', at most {NAME_BYTES_MAX} bytes")))
}

/// Where a query's rows go.
enum Target {
    Sink(Name),
    /// A console of its own, for the bare `SELECT` of this number (from 1).
    Console(usize),
}

struct Query {
    target: Target,
    sql: String,
    sql_at: At,
}

/// What the statements said so far.
struct Parts<'a> {
    source: Source<'a>,
    /// Every table and view, with its place.
    names: BTreeMap<String, At>,
    sources: Vec<SourceSpec>,
    statics: Vec<SourceSpec>,
    /// Tables without columns.
    sinks: Vec<SinkSpec>,
    views: Vec<ViewSpec>,
    queries: Vec<Query>,
    settings: Vec<Setting>,
}

struct Assembled {
    sources: Vec<SourceSpec>,
    statics: Vec<SourceSpec>,
    views: Vec<ViewSpec>,
    sinks: Vec<SinkSpec>,
    queries: Vec<QuerySpec>,
    settings: Settings,
}

impl<'a> Parts<'a> {
    fn new(source: Source<'a>) -> Parts<'a> {
        Parts {
            source,
            names: BTreeMap::new(),
            sources: Vec::new(),
            statics: Vec::new(),
            sinks: Vec::new(),
            views: Vec::new(),
            queries: Vec::new(),
            settings: Vec::new(),
        }
    }

    fn statement(&mut self, cursor: Cursor<'a>) -> Result<()> {
        let mut behind = cursor.clone();
        if behind.take_word("CREATE") && behind.take_word("TABLE") {
            return self.table(table::read(behind)?);
        }
        self.refuse_secrets(&cursor)?;
        if cursor.peek().is_some_and(begins_query) {
            let number = self.queries.iter().filter(|query| matches!(query.target, Target::Console(_))).count() + 1;
            return self.query(Target::Console(number), &cursor);
        }
        let mut behind = cursor.clone();
        if behind.take_word("CREATE") {
            return if behind.take_word("VIEW") { self.view(&cursor, behind) } else { Err(not_allowed(&cursor)) };
        }
        if behind.take_word("INSERT") {
            return self.insert(behind);
        }
        if behind.take_word("SET") { self.setting(behind) } else { Err(not_allowed(&cursor)) }
    }

    fn table(&mut self, Table { name, columns, settings }: Table) -> Result<()> {
        self.declare(&name.text, name.at)?;
        match columns {
            Some(columns) => {
                let source = connectors::source(self.source, &name.text, name.at, columns, settings)?;
                if source.is_static { &mut self.statics } else { &mut self.sources }.push(source);
            }
            None => self.sinks.push(connectors::sink(self.source, &name.text, name.at, settings)?),
        }
        Ok(())
    }

    fn view(&mut self, whole: &Cursor<'a>, mut behind: Cursor<'a>) -> Result<()> {
        let name = behind.expect_name("the name of a view")?;
        check_table_name(self.source, &name)?;
        self.declare(&name.text, name.at)?;
        let (sql, sql_at) = whole.rest();
        match whole.parse_rest(|parser| parser.parse_statement())? {
            Statement::CreateView(_) => {}
            _ => return Err(not_allowed(whole)),
        }
        self.views.push(ViewSpec { name: name.text, at: name.at, sql: sql.to_owned(), sql_at });
        Ok(())
    }

    fn insert(&mut self, mut cursor: Cursor<'a>) -> Result<()> {
        cursor.expect_word("INTO")?;
        let name = cursor.expect_name("the name of a sink")?;
        if cursor.peek().is_some_and(|lexeme| lexeme.token.token == Token::LParen) && !opens_query(&cursor) {
            let error = cursor.expected("SELECT").because("a sink has the columns that its query gives");
            return Err(error.help(format!("name them in the query: INSERT INTO {} SELECT a AS b", name.text)));
        }
        if !cursor.peek().is_some_and(begins_query) {
            return Err(cursor.expected("SELECT or WITH"));
        }
        self.query(Target::Sink(name), &cursor)
    }

    fn query(&mut self, target: Target, cursor: &Cursor<'a>) -> Result<()> {
        cursor.parse_rest(|parser| parser.parse_query())?;
        let (sql, sql_at) = cursor.rest();
        self.queries.push(Query { target, sql: sql.to_owned(), sql_at });
        Ok(())
    }

    fn setting(&mut self, mut cursor: Cursor<'a>) -> Result<()> {
        let name = cursor.expect_name("the name of a setting")?;
        if !cursor.take_word("TO") {
            cursor.expect_token(&Token::Eq)?;
        }
        if self.settings.iter().any(|setting| setting.key == name.text) {
            let error = self.source.error(name.at, format!("setting '{}' is given twice", name.text));
            return Err(error.help("keep one of them"));
        }
        let setting = options::value(&mut cursor, name.text, name.at)?;
        cursor.expect_end()?;
        if setting.known {
            self.settings.push(setting);
        }
        Ok(())
    }

    fn declare(&mut self, name: &str, at: At) -> Result<()> {
        if self.names.insert(name.to_owned(), at).is_none() {
            return Ok(());
        }
        Err(self
            .source
            .error(at, format!("there is already a table '{name}'"))
            .because("sources, sinks and views share one set of names")
            .help("rename one of them"))
    }

    /// A secret may fill the value of an option only: what a query holds is kept in the checkpoint.
    fn refuse_secrets(&self, cursor: &Cursor<'_>) -> Result<()> {
        let (sql, at) = cursor.rest();
        let Some(secret) = self.source.secrets_in(at.0..at.0 + sql.len()).first() else {
            return Ok(());
        };
        let shown = &self.source.text[secret.at.clone()];
        Err(self
            .source
            .error(At(secret.at.start), format!("{shown} stands in a query"))
            .because("what it stands for is never stored, and the checkpoint keeps what a query says")
            .help("write ${NAME} for what is no secret"))
    }

    fn assemble(mut self) -> Result<Assembled> {
        if self.queries.is_empty() {
            return Err(Error::usage("the job has no query")
                .at(Place::Path(PathBuf::from(self.source.file)))
                .because("nothing in it says what to compute")
                .help("add a SELECT, or INSERT INTO a sink SELECT ..."));
        }
        let settings = self.read_settings()?;
        overlap::refuse_endless_keeping(self.source, &self.sources, &settings)?;
        let queries = self.connect()?;
        self.check_all_sinks_used(&queries)?;
        self.check_no_feedback()?;
        overlap::refuse_shared_tables(self.source, &self.sinks)?;
        overlap::refuse_shared_senders(self.source, &self.sources)?;
        Ok(Assembled {
            sources: self.sources,
            statics: self.statics,
            views: self.views,
            sinks: self.sinks,
            queries,
            settings,
        })
    }

    /// Gives each query its sink.
    fn connect(&mut self) -> Result<Vec<QuerySpec>> {
        let mut queries: Vec<QuerySpec> = Vec::new();
        for Query { target, sql, sql_at } in std::mem::take(&mut self.queries) {
            let (name, sink) = match target {
                Target::Sink(name) => {
                    let sink = self.find_sink(&name)?;
                    if queries.iter().any(|query| query.sink == sink) {
                        return Err(self
                            .source
                            .error(name.at, format!("the sink '{}' has two queries", name.text))
                            .because("a sink takes exactly one INSERT, so that its output is one query's result")
                            .help("give the second query a sink of its own, or join both with UNION ALL"));
                    }
                    (name.text, sink)
                }
                Target::Console(number) => {
                    let name = format!("query{number}");
                    self.declare(&name, sql_at)?;
                    let connector = SinkConnector::Console;
                    self.sinks.push(SinkSpec {
                        name: name.clone(),
                        at: sql_at,
                        connector,
                        output_mode: None,
                        dedup_within_watermark: false,
                        late_rows: None,
                        batch_window: None,
                    });
                    (name, self.sinks.len() - 1)
                }
            };
            queries.push(QuerySpec { name, sink, sql, sql_at });
        }
        Ok(queries)
    }

    fn find_sink(&self, name: &Name) -> Result<usize> {
        if let Some(index) = self.sinks.iter().position(|sink| sink.name == name.text) {
            return Ok(index);
        }
        if self.sources.iter().chain(&self.statics).any(|source| source.name == name.text) {
            return Err(self
                .source
                .error(name.at, format!("'{}' is a source, not a sink", name.text))
                .because("it declares columns")
                .help("a sink declares none: CREATE TABLE name WITH (connector = 'console')"));
        }
        let error = self.source.error(name.at, format!("there is no sink '{}'", name.text));
        let near = nearest(&name.text, self.sinks.iter().map(|sink| sink.name.as_str()));
        Err(error.help(match near {
            Some(near) => format!("did you mean '{near}'?"),
            None => format!("add CREATE TABLE {} WITH (connector = 'console')", name.text),
        }))
    }

    fn check_all_sinks_used(&self, queries: &[QuerySpec]) -> Result<()> {
        let used = |index: usize| queries.iter().any(|query| query.sink == index);
        let Some((_, sink)) = self.sinks.iter().enumerate().find(|(index, _)| !used(*index)) else {
            return Ok(());
        };
        let name = &sink.name;
        Err(self
            .source
            .error(sink.at, format!("nothing is inserted into '{name}'"))
            .because("a table without columns is a sink, and a sink takes one query")
            .help(format!("add INSERT INTO {name} SELECT ...; or, if it is a source, declare its columns")))
    }

    fn check_no_feedback(&self) -> Result<()> {
        for source in self.sources.iter().chain(&self.statics) {
            if let Some(sink) = self.sinks.iter().find(|sink| overlap::feeds_back(source, sink)) {
                return Err(self
                    .source
                    .error(source.files.path_at, format!("'{}' reads what '{}' writes", source.name, sink.name))
                    .because("each batch would make the input of the next, without end")
                    .help("give the sink a folder of its own"));
            }
        }
        Ok(())
    }

    fn read_settings(&self) -> Result<Settings> {
        let mut settings = Settings::default();
        for setting in &self.settings {
            let bad = || {
                let what = format!("setting '{}' has a bad value {}", setting.key, setting.shown);
                self.source.error(setting.value_at, what)
            };
            if setting.key == "read_ahead_bytes" {
                let size = parse_size(&setting.value);
                settings.read_ahead_bytes = size.ok_or_else(|| bad().help("it must be a size, like 64MiB, or 0"))?;
                continue;
            }
            if setting.key == "multiple_watermark_policy" {
                settings.watermark_policy = match setting.value.trim().to_ascii_lowercase().as_str() {
                    "min" => WatermarkPolicy::Min,
                    "max" => WatermarkPolicy::Max,
                    _ => return Err(bad().help("it must be 'min' or 'max'")),
                };
                continue;
            }
            let value = parse_positive(&setting.value);
            match (setting.key.as_str(), value) {
                ("retain_batches", Some(batches)) => settings.retain_batches = Some(batches),
                ("snapshot_batches", Some(batches)) => settings.snapshot_batches = batches,
                ("retain_batches" | "snapshot_batches", None) => {
                    return Err(bad().help("it must be a positive whole number"));
                }
                (unknown, _) => {
                    let error = self.source.error(setting.key_at, format!("unknown setting '{unknown}'"));
                    return Err(error.help(suggestion(unknown, SETTINGS)));
                }
            }
        }
        Ok(settings)
    }
}

const SETTINGS: [&str; 4] = ["multiple_watermark_policy", "read_ahead_bytes", "retain_batches", "snapshot_batches"];

/// Whether the parenthesis that is next begins a query rather than a list of columns.
fn opens_query(cursor: &Cursor<'_>) -> bool {
    let mut inside = cursor.clone();
    while inside.take_token(&Token::LParen) {}
    inside.peek().is_some_and(begins_query)
}

fn not_allowed(cursor: &Cursor<'_>) -> Error {
    let (sql, at) = cursor.rest();
    let word = sql.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
    let what = if word.is_empty() {
        "a statement cannot begin like this".to_owned()
    } else if word.eq_ignore_ascii_case("create") {
        "a job creates tables and views only".to_owned()
    } else {
        format!("a job has no {} statement", word.to_uppercase())
    };
    let error = cursor.source.error(at, what);
    match nearest(word, ["SELECT", "INSERT", "CREATE", "WITH", "SET"]) {
        Some(near) if !word.eq_ignore_ascii_case("create") => error.help(format!("did you mean {near}?")),
        _ => error.help(ALLOWED),
    }
}
