//! Whether a source would read what a sink of the same job writes.

use std::path::{Component, Path, PathBuf};

use super::{
    sink::{SinkFolder, SinkSpec},
    spec::SourceSpec,
};

/// Whether files that the sink publishes would be input of the source. Paths are compared as written, relative
/// ones from the current directory; links are not followed.
pub(super) fn feeds_back(source: &SourceSpec, sink: &SinkSpec) -> bool {
    sink.folders().iter().any(|folder| is_read(source, folder))
}

fn is_read(source: &SourceSpec, published: &SinkFolder<'_>) -> bool {
    let extension = published.format.name();
    let folder = absolute(published.path);
    let input = absolute(Path::new(&source.files.path));
    if let Ok(pattern) = glob::Pattern::new(&input.to_string_lossy())
        && source.files.path.contains(['*', '?', '['])
    {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let of_batch = folder.join(format!("{}-00000000.{extension}", published.name));
        return [of_batch, folder.join(format!("{}.{extension}", published.name))]
            .iter()
            .any(|file| pattern.matches_path_with(file, options));
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
