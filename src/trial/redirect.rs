//! A job whose sinks write elsewhere, as a job file of its own, so that everything that reads the checkpoint later
//! finds them where they are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    job::{self, JobSpec, SinkFolder, SinkSpec, Variables},
    model::{Error, Result},
};

/// The job's text, filled in, with each files sink that is not `kept` writing to `folder/<its name>`; and where each
/// files sink writes by then.
///
/// # Errors
/// Of kind `Refused` for a sink whose place cannot be changed in the text.
pub(super) fn redirect(job: &JobSpec, folder: &Path, kept: &[String]) -> Result<(String, BTreeMap<String, PathBuf>)> {
    let mut text = job.text.clone();
    let mut places = BTreeMap::new();
    for sink in &job.sinks {
        for published in sink.folders() {
            let is_kept = kept.contains(&sink.name);
            let place = if is_kept { published.path.to_owned() } else { folder.join(&published.name) };
            if !is_kept {
                text = moved(job, &text, sink, &published, &place)?;
            }
            places.insert(published.name, place);
        }
    }
    Ok((text, places))
}

/// Replaces one path of a sink, and asks the parser whether that was it.
fn moved(job: &JobSpec, text: &str, sink: &SinkSpec, published: &SinkFolder<'_>, place: &Path) -> Result<String> {
    let written = quoted(published.path);
    for (at, _) in text.match_indices(&written) {
        let changed = format!("{}{}{}", &text[..at], quoted(place), &text[at + written.len()..]);
        let variables = Variables::new(BTreeMap::new());
        let Ok(parsed) = job::parse(&job.file, &job.name, &changed, &variables) else { continue };
        let moved = parsed.sinks.iter().find(|candidate| candidate.name == sink.name);
        let is_moved = |folder: &SinkFolder<'_>| folder.name == published.name && folder.path == place;
        if moved.is_some_and(|moved| moved.folders().iter().any(is_moved)) {
            return Ok(changed);
        }
    }
    Err(Error::refused(format!("the sink '{}' cannot be moved into the scratch folder", sink.name))
        .at(job.place(sink.at))
        .because(format!("its path '{}' does not stand in the job's text as it is", published.path.display()))
        .help(format!("let it write where the job says: --allow-sink {}", sink.name)))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "''"))
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
INSERT INTO c SELECT x FROM flows;
";

    fn parse(text: &str) -> JobSpec {
        job::parse("job.sql", "job", text, &Variables::with_environment(BTreeMap::new(), |_| None)).unwrap()
    }

    fn paths(job: &JobSpec) -> Vec<(String, PathBuf)> {
        let folders = |sink: &SinkSpec| {
            sink.folders().into_iter().map(|folder| (folder.name, folder.path.to_owned())).collect::<Vec<_>>()
        };
        job.sinks.iter().flat_map(folders).collect()
    }

    #[test]
    fn every_files_sink_moves_and_nothing_else() {
        let job = parse(JOB);
        let (text, places) = redirect(&job, Path::new("/tmp/it's"), &[]).unwrap();
        let moved = parse(&text);
        let expected = ["a", "b", "c.late"].map(|name| (name.to_owned(), Path::new("/tmp/it's").join(name)));
        assert_eq!(paths(&moved), expected);
        assert_eq!(places.len(), 3);
        assert_eq!(places["b"], Path::new("/tmp/it's/b"));
        assert_eq!(moved.sources[0].files.path, "files");
        assert_eq!(moved.queries[0].sql, job.queries[0].sql);
    }

    #[test]
    fn a_kept_sink_stays_where_it_is() {
        let (text, places) = redirect(&parse(JOB), Path::new("/tmp/x"), &["a".to_owned()]).unwrap();
        let expected = [("a", "out"), ("b", "/tmp/x/b"), ("c.late", "/tmp/x/c.late")];
        assert_eq!(paths(&parse(&text)), expected.map(|(name, path)| (name.to_owned(), path.into())));
        assert_eq!(places["a"], Path::new("out"));
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
