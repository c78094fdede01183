//! A job whose sinks write elsewhere, as a job file of its own, so that everything that reads the checkpoint later
//! finds them where they are. A sink that runs a program gets one that takes the rows and does nothing with them: what a
//! program does outside cannot be moved. Nor can a server: a sink of one gets a table of SQLite, which takes the same rows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    job::{self, CommandSpec, JobSpec, PlaceKind, SinkConnector, SinkPlace, SinkSpec, Variables},
    model::{Error, Result},
};

/// Takes the rows, and ends well.
const NO_PROGRAM: &str = "cat > /dev/null";

/// Where a sink of the redirected job publishes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moved {
    pub name: String,
    pub path: PathBuf,
    /// In a database; `None`: files.
    pub table: Option<String>,
}

/// The job's text, filled in, with each sink that is not `kept` writing to `folder/<its name>`; and where each of them
/// writes by then.
///
/// # Errors
/// Of kind `Refused` for a sink whose place cannot be changed in the text.
pub(super) fn redirect(job: &JobSpec, folder: &Path, kept: &[String]) -> Result<(String, Vec<Moved>)> {
    let job = &without_servers(job, folder, kept)?;
    let mut text = job.text.clone();
    let mut places = Vec::new();
    for sink in &job.sinks {
        let is_kept = kept.contains(&sink.name);
        for published in sink.places() {
            let (file, table) = match published.kind {
                PlaceKind::Folder(_) => (published.name.clone(), None),
                PlaceKind::Table(table) => (format!("{}.db", published.name), Some(table.to_owned())),
            };
            let path = if is_kept { published.path.to_owned() } else { folder.join(file) };
            if !is_kept {
                text = moved(job, &text, sink, &published, &path)?;
            }
            places.push(Moved { name: published.name, path, table });
        }
        if let (SinkConnector::Command(command), false) = (&sink.connector, is_kept) {
            text = without_program(job, &text, sink, command)?;
        }
    }
    Ok((text, places))
}

/// The job with a table of SQLite in the place of each server's that is not `kept`.
fn without_servers(job: &JobSpec, folder: &Path, kept: &[String]) -> Result<JobSpec> {
    let mut moved = job.clone();
    let is_left = |sink: &&SinkSpec| sink.connector.is_server() && !kept.contains(&sink.name);
    while let Some(sink) = moved.sinks.iter().find(is_left) {
        let Some(options) = sink.connector.server_options() else { break };
        let path = quoted(&folder.join(format!("{}.db", sink.name)).to_string_lossy());
        let list = format!("{}connector = 'sqlite', path = {path}", options.common);
        let mut text = moved.text.clone();
        text.replace_range(options.list.clone(), &list);
        let parsed = job::parse(&job.file, &job.name, &text, &Variables::new(BTreeMap::new()));
        moved = parsed.map_err(|error| {
            cannot_be_moved(job, sink, {
                let why = error.why().map(|why| format!(": {why}")).unwrap_or_default();
                format!("with a table of SQLite in its place the job is refused: {}{why}", error.what())
            })
        })?;
    }
    Ok(moved)
}

/// Replaces one path of a sink, and asks the parser whether that was it.
fn moved(job: &JobSpec, text: &str, sink: &SinkSpec, published: &SinkPlace<'_>, path: &Path) -> Result<String> {
    let is_moved = |place: &SinkPlace<'_>| place.name == published.name && place.path == path;
    let written = quoted(&published.path.to_string_lossy());
    let changed = replaced(job, text, (&written, &path.to_string_lossy()), |parsed| {
        let moved = parsed.sinks.iter().find(|candidate| candidate.name == sink.name);
        moved.is_some_and(|moved| moved.places().iter().any(is_moved))
    });
    changed.ok_or_else(|| {
        let why = format!("its path '{}' does not stand in the job's text as it is", published.path.display());
        cannot_be_moved(job, sink, why)
    })
}

/// Replaces the command of a sink.
fn without_program(job: &JobSpec, text: &str, sink: &SinkSpec, command: &CommandSpec) -> Result<String> {
    let in_job = |shell: String, name: &String| shell.replace(&format!("${{{name}}}"), &format!("${{env:{name}}}"));
    let written = quoted(&command.secrets.iter().fold(command.shell.clone(), in_job));
    let changed = replaced(job, text, (&written, NO_PROGRAM), |parsed| {
        let moved = parsed.sinks.iter().find(|candidate| candidate.name == sink.name).map(|moved| &moved.connector);
        matches!(moved, Some(SinkConnector::Command(moved)) if moved.shell == NO_PROGRAM)
    });
    changed.ok_or_else(|| cannot_be_moved(job, sink, "its command cannot be found in the job's text".to_owned()))
}

/// The text with one place where it has `written` changed to a string of `new`: the one that makes the job what `is_it` asks for.
fn replaced(
    job: &JobSpec,
    text: &str,
    (written, new): (&str, &str),
    is_it: impl Fn(&JobSpec) -> bool,
) -> Option<String> {
    text.match_indices(written).find_map(|(at, _)| {
        let changed = format!("{}{}{}", &text[..at], quoted(new), &text[at + written.len()..]);
        let variables = Variables::new(BTreeMap::new());
        let parsed = job::parse(&job.file, &job.name, &changed, &variables).ok()?;
        is_it(&parsed).then_some(changed)
    })
}

fn cannot_be_moved(job: &JobSpec, sink: &SinkSpec, why: String) -> Error {
    Error::refused(format!("the sink '{}' cannot be moved into the scratch folder", sink.name))
        .at(job.place(sink.at))
        .because(why)
        .help(format!("let it write where the job says: --allow-sink {}", sink.name))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "\
CREATE TABLE flows (x STRING) WITH (connector = 'files', path = 'files', format = 'json');
-- writes to 'files' no, to 'out'
CREATE TABLE a WITH (connector = 'files', path = '${OUT:-out}', format = 'json', output_mode = 'append');
CREATE TABLE b WITH (connector = 'files', format = 'csv', path = '${OUT:-out}', output_mode = 'append');
CREATE TABLE c WITH (connector = 'memory', output_mode = 'append', late_rows = '${OUT:-out}');
INSERT INTO a SELECT x FROM flows WHERE x <> 'out';
INSERT INTO b SELECT x FROM flows;
CREATE TABLE d WITH (connector = 'sqlite', path = 'o.db', output_mode = 'append');
-- it's 'mail' that is run
CREATE TABLE e WITH (connector = 'command', command = 'mail ''-s'' \"${SUBJECT:-x}\"', output_mode = 'append');
INSERT INTO c SELECT x FROM flows;
INSERT INTO d SELECT x FROM flows;
INSERT INTO e SELECT x FROM flows;
";

    fn parse(text: &str) -> JobSpec {
        job::parse("job.sql", "job", text, &Variables::with_environment(BTreeMap::new(), |_| None)).unwrap()
    }

    fn paths(job: &JobSpec) -> Vec<(String, PathBuf)> {
        let places = |sink: &SinkSpec| {
            sink.places().into_iter().map(|place| (place.name, place.path.to_owned())).collect::<Vec<_>>()
        };
        job.sinks.iter().flat_map(places).collect()
    }

    #[test]
    fn every_sink_moves_and_nothing_else() {
        let job = parse(JOB);
        let (text, places) = redirect(&job, Path::new("/tmp/it's"), &[]).unwrap();
        let moved = parse(&text);
        let expected = [("a", "a"), ("b", "b"), ("c.late", "c.late"), ("d", "d.db")]
            .map(|(name, file)| (name.to_owned(), Path::new("/tmp/it's").join(file)));
        assert_eq!(paths(&moved), expected);
        let named: Vec<_> = places.iter().map(|place| (place.name.clone(), place.path.clone())).collect();
        assert_eq!(named, expected);
        assert_eq!(places[3].table.as_deref(), Some("d"));
        assert!(matches!(&moved.sinks[4].connector, SinkConnector::Command(command) if command.shell == NO_PROGRAM));
        assert_eq!(moved.sources[0].files.path, "files");
        assert_eq!(moved.queries[0].sql, job.queries[0].sql);
    }

    #[test]
    fn a_server_gives_way_to_a_table_of_sqlite() {
        let job = parse(&JOB.replace(
            "'sqlite', path = 'o.db'",
            "'postgres', url = 'postgres://a@h/x', table = 'far', late_rows = 'late'",
        ));
        let (text, places) = redirect(&job, Path::new("/tmp/it's"), &[]).unwrap();
        let moved = parse(&text);
        let connector = SinkConnector::Sqlite { path: "/tmp/it's/d.db".into(), table: "d".to_owned() };
        assert_eq!(moved.sinks[3].connector, connector);
        assert_eq!(moved.sinks[3].late_rows.as_deref(), Some(Path::new("/tmp/it's/d.late")));
        assert_eq!(moved.sinks[3].output_mode, job.sinks[3].output_mode);
        assert_eq!(places.len(), 5);
        let (text, places) = redirect(&job, Path::new("/tmp/x"), &["d".to_owned()]).unwrap();
        assert_eq!((parse(&text).sinks[3].connector.name(), places.len()), ("postgres", 4));
    }

    #[test]
    fn a_kept_sink_stays_where_it_is() {
        let (text, places) = redirect(&parse(JOB), Path::new("/tmp/x"), &["a".to_owned()]).unwrap();
        let expected = [("a", "out"), ("b", "/tmp/x/b"), ("c.late", "/tmp/x/c.late"), ("d", "/tmp/x/d.db")];
        assert_eq!(paths(&parse(&text)), expected.map(|(name, path)| (name.to_owned(), path.into())));
        assert_eq!(places[0].path, Path::new("out"));
    }

    #[test]
    fn a_path_that_the_text_spells_otherwise_is_refused() {
        let mut job = parse(JOB);
        job.sinks[0].connector =
            job::SinkConnector::Files { path: "elsewhere".into(), format: crate::job::RowFormat::Json };
        let error = redirect(&job, Path::new("/tmp/x"), &[]).unwrap_err();
        assert!(error.to_string().contains("--allow-sink a"), "{error}");
    }
}
