//! A hint that something changed in a folder, so that new files need not wait for the next look.

use std::{
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::Duration,
};

use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::files::ignored_name;

/// How long a wait goes on at most before it asks whether to stop.
const SLICE: Duration = Duration::from_millis(50);

/// Watches a folder. Only a hint: listing is the truth, and a folder that cannot be watched (a network file
/// system, too many watches) is merely looked at less often.
pub struct Watch {
    /// The watcher lives as long as its events are waited for; `None`: it could not be set up.
    events: Option<(RecommendedWatcher, Receiver<()>)>,
}

impl Watch {
    /// Begins to watch; a failure is logged once, and every wait then lasts its whole time.
    pub fn new(folder: &Path, recursive: bool) -> Watch {
        match watch(folder, recursive) {
            Ok(events) => Watch { events: Some(events) },
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "cannot watch the folder for new files; it is listed at intervals instead");
                Watch { events: None }
            }
        }
    }

    /// Waits until something changed in the folder (`true`), `timeout` has passed or `stop` says so (`false`).
    /// Changes since the last wait count.
    pub fn wait(&self, timeout: Duration, stop: &dyn Fn() -> bool) -> bool {
        let mut left = timeout;
        while !left.is_zero() && !stop() {
            let slice = left.min(SLICE);
            match &self.events {
                None => std::thread::sleep(slice),
                Some((_, events)) => match events.recv_timeout(slice) {
                    Ok(()) => return true,
                    Err(RecvTimeoutError::Timeout) => {}
                    // The watcher's thread is gone: time passes all the same.
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(slice),
                },
            }
            left -= slice;
        }
        false
    }
}

fn watch(folder: &Path, recursive: bool) -> notify::Result<(RecommendedWatcher, Receiver<()>)> {
    // One place is enough: a hint that waits already says all.
    let (sender, events) = sync_channel(1);
    let on_event = move |event: notify::Result<Event>| {
        if event.map_or(true, |event| matters(&event)) && sender.try_send(()).is_err() {
            tracing::trace!("a hint is waiting already");
        }
    };
    let mut watcher = RecommendedWatcher::new(on_event, Config::default().with_follow_symlinks(false))?;
    let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    watcher.watch(folder, mode)?;
    Ok((watcher, events))
}

/// Our own reading is no news, and neither are files that no listing shows.
fn matters(event: &Event) -> bool {
    let written = notify::event::EventKind::Access(notify::event::AccessKind::Close(notify::event::AccessMode::Write));
    let shown = |path: &std::path::PathBuf| !path.file_name().is_some_and(ignored_name);
    (!event.kind.is_access() || event.kind == written) && (event.paths.is_empty() || event.paths.iter().any(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_new_file_ends_the_wait_and_reading_does_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old"), "x").unwrap();
        let watch = Watch::new(folder.path(), false);
        assert!(!watch.wait(Duration::from_millis(60), &|| false));
        std::fs::read(folder.path().join("old")).unwrap();
        std::fs::write(folder.path().join(".hidden"), "x").unwrap();
        assert!(!watch.wait(Duration::from_millis(200), &|| false));
        std::fs::write(folder.path().join("new"), "x").unwrap();
        assert!(watch.wait(LONG, &|| false), "changes before the wait count");
    }

    #[test]
    fn a_stop_ends_the_wait_and_a_missing_folder_is_only_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Watch::new(folder.path(), true).wait(LONG, &|| true));
        let watch = Watch::new(&folder.path().join("missing"), true);
        assert!(!watch.wait(Duration::from_millis(60), &|| false));
    }
}
