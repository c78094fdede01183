//! Whether a source would read what a sink of the same job writes.

use std::path::{Component, Path, PathBuf};

use super::spec::{SinkConnector, SinkSpec, SourceSpec};

/// Whether files that the sink publishes would be input of the source. Paths are compared as written, relative
/// ones from the current directory; links are not followed.
pub(super) fn feeds_back(source: &SourceSpec, sink: &SinkSpec) -> bool {
    let SinkConnector::Files { path: folder, format } = &sink.connector else {
        return false;
    };
    let extension = format.name();
    let folder = absolute(folder);
    let input = absolute(Path::new(&source.files.path));
    if let Ok(pattern) = glob::Pattern::new(&input.to_string_lossy())
        && source.files.path.contains(['*', '?', '['])
    {
        let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
        let published = folder.join(format!("{}-00000000.{extension}", sink.name));
        return [published, folder.join(format!("{}.{extension}", sink.name))]
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
