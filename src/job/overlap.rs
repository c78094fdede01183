//! Whether a source would read what a sink of the same job writes, two sinks write the same, or two sources read what only one can.

use std::path::{Component, Path, PathBuf};

use super::{
    received::Sender,
    sink::{PlaceKind, SinkPlace, SinkSpec},
    spec::{Settings, SourceSpec},
    tokens::Source,
};
use crate::model::Result;

/// Whether files that the sink publishes would be input of the source. Paths are compared as written, relative
/// ones from the current directory; links are not followed.
pub(super) fn feeds_back(source: &SourceSpec, sink: &SinkSpec) -> bool {
    source.received.is_none() && sink.places().iter().any(|place| is_read(source, place))
}

/// Whether a folder is where a source looks for files, or below.
pub(super) fn is_inside(folder: &Path, source: &str) -> bool {
    let is_pattern = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let root: PathBuf = absolute(Path::new(source)).components().take_while(|part| !is_pattern(part)).collect();
    absolute(folder).starts_with(root)
}

/// Checks that files are cleared away only where some day no batch needs them.
///
/// # Errors
/// Of kind `Usage`, at the source.
pub(super) fn refuse_endless_keeping(text: Source<'_>, sources: &[SourceSpec], settings: &Settings) -> Result<()> {
    let cleans = |source: &&SourceSpec| source.files.clean_source.is_some();
    match sources.iter().find(cleans).filter(|_| settings.retain_batches.is_none()) {
        None => Ok(()),
        Some(source) => Err(text
            .error(source.at, format!("files of '{}' would never be cleared away", source.name))
            .because("all batches are kept, and a rewind to any of them reads again what came after it")
            .help("add SET retain_batches = '1000'; or leave clean_source out")),
    }
}

/// Checks that no two sources want what only one can have: the standard input of the process, or an address to listen on.
///
/// # Errors
/// Of kind `Usage`, at the second of them.
pub(super) fn refuse_shared_senders(text: Source<'_>, sources: &[SourceSpec]) -> Result<()> {
    let sender = |source: &SourceSpec| source.received.as_ref().map(|spec| spec.sender.clone());
    for (at, second) in sources.iter().enumerate() {
        let Some(wanted) = sender(second) else { continue };
        for first in &sources[..at] {
            let (what, why) = match (sender(first), &wanted) {
                (Some(Sender::Stdin), Sender::Stdin) => {
                    ("read the standard input".to_owned(), "each line of it could reach only one of them")
                }
                (Some(Sender::Http(first)), Sender::Http(second)) if is_same_address(&first.listen, &second.listen) => {
                    (format!("listen on '{}'", second.listen), "only one of them would get the requests")
                }
                _ => continue,
            };
            return Err(text
                .error(second.at, format!("'{}' and '{}' both {what}", first.name, second.name))
                .because(why)
                .help("declare one source, and read it in several queries"));
        }
    }
    Ok(())
}

/// Whether two could not listen on these at once. Names are not looked up.
fn is_same_address(first: &str, second: &str) -> bool {
    let part = |address: &str| {
        address.to_ascii_lowercase().rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse::<u16>().ok()))
    };
    let (Some((first, first_port)), Some((second, second_port))) = (part(first), part(second)) else { return false };
    let is_any = |host: &str| matches!(host, "0.0.0.0" | "[::]");
    // of port 0 each gets another one
    first_port == second_port && first_port != Some(0) && (first == second || is_any(&first) || is_any(&second))
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
