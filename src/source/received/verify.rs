//! Looking at the whole of a receive log, without changing it.

use std::path::Path;

use super::{
    durable,
    segments::{self, Folder, Hole},
};
use crate::{
    job::{Sender, SourceSpec},
    model::{BatchId, ErrorKind, Result},
};

/// Checks the receive log of a source: every segment frame by frame, and that none is missing that a batch may still have to
/// read. `taken`: the files that live batches have read, with their batches; `horizon`: the oldest batch that can be gone back
/// to (`None`: all, the start included). `running`: the job runs, and may write or remove segments meanwhile.
///
/// # Errors
/// Of kind `Failed`, where the folder or a segment in it cannot be read.
pub fn verify<'a>(
    spec: &SourceSpec,
    taken: impl Iterator<Item = (BatchId, &'a Path)>,
    horizon: Option<BatchId>,
    running: bool,
) -> Result<Vec<String>> {
    let Some(folder) = super::folder(spec) else { return Ok(Vec::new()) };
    let mut findings = Vec::new();
    let mut find =
        |what: String, path: &Path| findings.push(format!("source '{}': {what}: {}", spec.name, path.display()));
    let found = Folder::read(folder)?;
    for number in &found.closed {
        let path = folder.join(segments::closed_name(*number));
        match segments::read_scan(&path, *number, &spec.name) {
            Ok((scan, length)) if scan.sealed && scan.end as u64 == length => {}
            Ok(_) => find("a segment of the receive log breaks off before its end".to_owned(), &path),
            // retention has removed it meanwhile, or a job that was begun since
            Err(_) if matches!(path.try_exists(), Ok(false)) => {}
            Err(error) if error.kind() == ErrorKind::Failed => return Err(error),
            Err(error) => {
                find(format!("a segment of the receive log is damaged {}", error.why().unwrap_or_default()), &path)
            }
        }
    }
    let mut whole_from = 0;
    for number in found.open.iter().filter(|_| !running) {
        let path = folder.join(segments::open_name(*number));
        let mut damaged = |why: &str| find(format!("the open segment of the receive log is damaged {why}"), &path);
        match segments::read_scan(&path, *number, &spec.name) {
            Ok((scan, _)) => {
                whole_from = scan.header.story.whole_from;
                durable::refuse_shorter(folder, &scan).unwrap_or_else(|damage| damaged(&damage.to_string()));
            }
            // a job that was begun since has closed it
            Err(_) if matches!(path.try_exists(), Ok(false)) => {}
            Err(error) if error.kind() == ErrorKind::Failed => return Err(error),
            Err(error) => damaged(error.why().unwrap_or_default()),
        }
    }
    let mut newest = None;
    for (batch, file) in taken {
        let Some(number) = segments::closed_number(file) else { continue };
        newest = newest.max(Some(number));
        if !running && Some(batch) > horizon && !found.closed.contains(&number) {
            find(
                format!("a segment is gone that batch {batch} has read, and a rewind would read again"),
                &folder.join(file),
            );
        }
    }
    let open = found.open.first().copied().filter(|_| !running);
    if !running && open.is_none() && (found.exists || newest.is_some()) && !found.forked {
        let lost = found.closed.last().copied().max(newest).map_or(0, |last| last + 1);
        find("the open segment of the receive log is gone".to_owned(), &folder.join(segments::open_name(lost)));
    }
    if let Some(old) = open.filter(|open| Some(*open) <= newest) {
        find("the receive log is older than the log of batches".to_owned(), &folder.join(segments::open_name(old)));
    }
    // one that is removed while the folder is read may seem to be missing between others
    let remembers = !running && spec.received.as_ref().is_some_and(|spec| matches!(spec.sender, Sender::Http(_)));
    for Hole { first, why, .. } in segments::holes(&found.closed, open, newest, remembers, whole_from) {
        find(format!("a segment of the receive log is missing: {why}"), &folder.join(segments::closed_name(first)));
    }
    Ok(findings)
}
