//! Whether a source would read what a sink of the same job writes, or two sinks write the same.

use std::path::{Component, Path, PathBuf};

use super::{
    sink::{PlaceKind, SinkPlace, SinkSpec},
    spec::SourceSpec,
    tokens::Source,
};
use crate::model::Result;

/// Whether files that the sink publishes would be input of the source. Paths are compared as written, relative
/// ones from the current directory; links are not followed.
pub(super) fn feeds_back(source: &SourceSpec, sink: &SinkSpec) -> bool {
    sink.places().iter().any(|place| is_read(source, place))
}

/// Checks that no table of a database has two sinks: each would take the other's rows for its own.
///
/// # Errors
/// Of kind `Usage`, at the second of them.
pub(super) fn refuse_shared_tables(text: Source<'_>, sinks: &[SinkSpec]) -> Result<()> {
    let table = |sink: &SinkSpec| {
        let places = sink.places();
        places.iter().find_map(|place| match place.kind {
            PlaceKind::Table(table) => Some((absolute(place.path), table.to_ascii_lowercase())),
            PlaceKind::Folder(_) => None,
        })
    };
    for (at, sink) in sinks.iter().enumerate() {
        let own = table(sink);
        let shares =
            |first: &&SinkSpec| own.is_some() && table(first) == own || first.connector.shares_server(&sink.connector);
        if let Some(first) = sinks[..at].iter().find(shares) {
            return Err(text
                .error(sink.at, format!("'{}' and '{}' write to the same table", first.name, sink.name))
                .because("what one of them published could not be told from the other's")
                .help("give one of them another table, or another database"));
        }
    }
    Ok(())
}

fn is_read(source: &SourceSpec, published: &SinkPlace<'_>) -> bool {
    let place = absolute(published.path);
    let (folder, files) = match published.kind {
        PlaceKind::Table(_) => (place.parent().unwrap_or(Path::new("/")).to_owned(), vec![place]),
        PlaceKind::Folder(format) => {
            let (name, extension) = (&published.name, format.name());
            let files = [format!("{name}-00000000.{extension}"), format!("{name}.{extension}")];
            let files = files.map(|file| place.join(file)).into();
            (place, files)
        }
    };
    let input = absolute(Path::new(&source.files.path));
    if let Ok(pattern) = glob::Pattern::new(&input.to_string_lossy())
        && source.files.path.contains(['*', '?', '['])
    {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        return files.iter().any(|file| pattern.matches_path_with(file, options));
    }
    let Ok(below) = folder.strip_prefix(&input) else {
        return false;
    };
    let is_partition = |part: Component<'_>| part.as_os_str().to_string_lossy().contains('=');
    source.files.recursive || below.components().all(is_partition)
}

/// The path from the root, without `.` and `..`, by its text alone.
fn absolute(path: &Path) -> PathBuf {
    // without a current directory a relative path stays what it is, and is compared with its like
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}
