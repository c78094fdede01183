//! The one thread that owns the live log's database.
//!
//! sled can panic (disk full) and hang (a lost file of its own): every call runs here, under `catch_unwind`,
//! and its caller waits only so long. After the first failed write the store is
//! given up as it is.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::store::LogStore;
use crate::model::{Error, ErrorKind, Place, Result, error::panic_text};

/// No call on a working disk takes this long. A job whose log hangs (sled waits for ever for some writes that failed)
/// has ten seconds to say so and leave; on a disk that merely stalls it stops as safely, and can be run again.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What the thread owns.
struct Slot {
    store: Option<Box<dyn LogStore>>,
    /// The part of the log that the store holds.
    part: u32,
}

type Job = Box<dyn FnOnce(&mut Slot) + Send>;

/// Sends work to the thread; clones share the thread.
#[derive(Clone)]
pub(super) struct LogHandle {
    jobs: Sender<Job>,
    /// How long a caller waits.
    answer_within: Duration,
    /// A call got no answer: the thread hangs, and nobody waits for it again.
    hangs: Arc<AtomicBool>,
}

/// The thread itself; ends when it and all handles are dropped.
pub(super) struct LogThread {
    handle: LogHandle,
    thread: JoinHandle<()>,
}

impl LogThread {
    /// Starts the thread, and opens the store of `part` in it.
    pub fn start(part: u32, open: impl FnOnce() -> Result<Box<dyn LogStore>> + Send + 'static) -> Result<LogThread> {
        LogThread::start_within(ANSWER_WITHIN, part, open)
    }

    fn start_within(
        answer_within: Duration,
        part: u32,
        open: impl FnOnce() -> Result<Box<dyn LogStore>> + Send + 'static,
    ) -> Result<LogThread> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new()
            .name("checkpoint-log".to_owned())
            .spawn(move || {
                let mut slot = Slot { store: None, part };
                queue.into_iter().for_each(|job| job(&mut slot));
            })
            .map_err(|error| Error::failed("cannot start the log's thread").because(error.to_string()))?;
        let handle = LogHandle { jobs, answer_within, hangs: Arc::new(AtomicBool::new(false)) };
        let started = LogThread { handle, thread };
        started.put("opening the live log", ErrorKind::Refused, part, open)?;
        Ok(started)
    }

    pub fn handle(&self) -> &LogHandle {
        &self.handle
    }

    /// Opens another store in place of the present one, which is closed (where it fails, leaked). An error without a
    /// place gets the folder of the store that failed: the `old` one or the `new`.
    pub fn replace(
        &self,
        part: u32,
        (old, new): (&Path, &Path),
        open: impl FnOnce() -> Result<Box<dyn LogStore>> + Send + 'static,
    ) -> Result<()> {
        let closed = Arc::new(AtomicBool::new(false));
        let tells = Arc::clone(&closed);
        let open = move || {
            tells.store(true, Ordering::Release);
            open()
        };
        self.put("beginning the next part of the log", ErrorKind::Failed, part, open).map_err(|error| {
            let folder = if closed.load(Ordering::Acquire) { new } else { old };
            error.at_if_none(Place::Path(folder.to_owned()))
        })
    }

    fn put(
        &self,
        what: &'static str,
        panicked: ErrorKind,
        part: u32,
        open: impl FnOnce() -> Result<Box<dyn LogStore>> + Send + 'static,
    ) -> Result<()> {
        self.handle.in_thread(what, panicked, move |slot| {
            if let Some(old) = slot.store.take() {
                old.close()?;
            }
            slot.store = Some(open()?);
            slot.part = part;
            Ok(())
        })
    }

    /// Closes the database in good order and ends the thread.
    pub fn close(self) -> Result<()> {
        self.handle.in_thread("closing the live log", ErrorKind::Failed, |slot| match slot.store.take() {
            Some(store) => store.close(),
            None => Ok(()),
        })?;
        let LogThread { handle, thread } = self;
        drop(handle);
        // A reader's connection may hold a handle for a moment longer: then the thread ends by itself.
        if thread.is_finished() {
            thread.join().map_err(|_| Error::failed("the log's thread panicked"))?;
        }
        Ok(())
    }
}

impl LogHandle {
    /// Runs `work` on the store, in its thread. An error or a panic of `work` is the store's end.
    pub fn write<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut dyn LogStore) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.in_thread(what, ErrorKind::Failed, move |slot| {
            let mut store = slot.store.take().ok_or_else(stopped)?;
            match work(store.as_mut()) {
                Ok(value) => {
                    slot.store = Some(store);
                    Ok(value)
                }
                Err(error) => {
                    store.abandon();
                    Err(error)
                }
            }
        })
    }

    /// Reads from the store, in its thread; `work` also gets the part's number.
    pub fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn LogStore, u32) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.in_thread("reading the live log", ErrorKind::Refused, move |slot| {
            let store = slot.store.as_ref().ok_or_else(stopped)?;
            work(store.as_ref(), slot.part)
        })
    }

    /// `panicked`: the kind of error that a panic becomes. While opening and reading it means that the bytes make no
    /// sense (`Refused`), while writing that the disk does not take them (`Failed`).
    fn in_thread<T: Send + 'static>(
        &self,
        what: &'static str,
        panicked: ErrorKind,
        work: impl FnOnce(&mut Slot) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.hangs.load(Ordering::Acquire) {
            return Err(stopped());
        }
        let (reply, answer) = mpsc::channel();
        let job = move |slot: &mut Slot| {
            let result = catch_unwind(AssertUnwindSafe(|| work(slot))).unwrap_or_else(|panic| {
                if let Some(store) = slot.store.take() {
                    store.abandon();
                }
                Err(Error::new(panicked, format!("the log failed while {what}"))
                    .because(panic_text(panic.as_ref()))
                    .help("check that the disk works and has space, then run the job again: nothing committed is lost"))
            });
            if reply.send(result).is_err() {
                tracing::warn!("{what} ended after its caller had given up");
            }
        };
        self.jobs.send(Box::new(job)).map_err(|_| stopped())?;
        match answer.recv_timeout(self.answer_within) {
            Ok(result) => result,
            Err(RecvTimeoutError::Disconnected) => Err(stopped()),
            Err(RecvTimeoutError::Timeout) => {
                self.hangs.store(true, Ordering::Release);
                Err(Error::new(ErrorKind::Failed, format!("{what} takes too long"))
                    .because(format!("there was no answer within {:?}", self.answer_within))
                    .help("check the disk, then run the job again: nothing committed is lost"))
            }
        }
    }
}

fn stopped() -> Error {
    Error::failed("the log has stopped after an earlier failure").help("run the job again: nothing committed is lost")
}

#[cfg(test)]
mod tests {
    use super::{super::store::MemoryStore, *};

    fn started(answer_within: Duration) -> LogThread {
        LogThread::start_within(answer_within, 1, || Ok(Box::new(MemoryStore::default()))).unwrap()
    }

    #[test]
    fn a_panic_of_the_store_is_an_error_and_its_end() {
        let log = started(ANSWER_WITHIN);
        let error = log.handle().write::<()>("writing", |_| panic!("the disk is full")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let text = error.to_string();
        assert!(text.contains("the disk is full") && text.contains("help: "), "{text}");
        let after = log.handle().read(|store, _| store.first_seq()).unwrap_err();
        assert!(after.to_string().contains("stopped after an earlier failure"), "{after}");
        log.close().unwrap();
    }

    #[test]
    fn a_store_that_hangs_is_an_error_in_time_and_nobody_waits_again() {
        let log = started(Duration::from_millis(50));
        let (let_go, held) = mpsc::channel::<()>();
        let error = log.handle().write("flushing", move |_| {
            // until the test ends
            assert!(held.recv().is_ok());
            Ok(())
        });
        let text = error.unwrap_err().to_string();
        assert!(text.contains("flushing takes too long") && text.contains("50ms"), "{text}");
        // at once: the thread still hangs
        let after = log.handle().read(|store, _| store.first_seq()).unwrap_err();
        assert!(after.to_string().contains("stopped after an earlier failure"), "{after}");
        let_go.send(()).unwrap();
    }
}
