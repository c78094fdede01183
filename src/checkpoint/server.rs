//! A running checkpoint answers readers over a Unix socket that only its user can open.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{
            fs::{DirBuilderExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use super::{activity::Said, disk, layout::Layout, log_thread::LogHandle, wire};
use crate::model::{Error, Result};

pub(super) const SOCKET: &str = "socket";
/// The socket is made in here, where nobody else can reach it before its mode is set.
const WORKSHOP: &str = ".socket.tmp";
/// More readers at once are turned away; they ask again.
const READERS_MAX: usize = 8;

/// What readers are told of.
#[derive(Clone)]
struct Told {
    log: LogHandle,
    said: Said,
}

/// Answers until it is dropped.
pub(super) struct Server {
    layout: Layout,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts answering. A folder in which no socket can be made is no reason to stop a job: then it is none, and says so.
    pub fn start(layout: &Layout, log: LogHandle, said: Said) -> Option<Server> {
        match Server::try_start(layout, Told { log, said }) {
            Ok(server) => Some(server),
            Err(error) => {
                tracing::warn!(dir = %layout.dir().display(), "the running job cannot be read from outside: {error}");
                None
            }
        }
    }

    fn try_start(layout: &Layout, told: Told) -> io::Result<Server> {
        let listener = bind(layout)?;
        let (wake, woken) = UnixStream::pair()?;
        let thread = std::thread::Builder::new()
            .name("checkpoint-readers".to_owned())
            .spawn(move || accept_all(&listener, &woken, &told))?;
        Ok(Server { layout: layout.clone(), wake, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.wake.shutdown(std::net::Shutdown::Both);
        let joined = self.thread.take().map(JoinHandle::join);
        let removed = disk::remove(&self.layout.dir().join(SOCKET));
        if let Err(error) = removed {
            tracing::warn!("the socket for readers stays behind, unused: {error}");
        }
        if stopped.is_err() || matches!(joined, Some(Err(_))) {
            tracing::warn!("the thread that answers readers did not end in good order");
        }
    }
}

fn bind(layout: &Layout) -> io::Result<UnixListener> {
    let workshop = layout.dir().join(WORKSHOP);
    if workshop.exists() {
        fs::remove_dir_all(&workshop)?;
    }
    DirBuilder::new().mode(0o700).create(&workshop)?;
    let folder = File::open(&workshop)?;
    let path = wire::short_path(&folder, SOCKET);
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    fs::rename(&path, layout.dir().join(SOCKET))?;
    fs::remove_dir(&workshop)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept_all(listener: &UnixListener, woken: &UnixStream, told: &Told) {
    let readers = Arc::new(AtomicUsize::new(0));
    while wait(listener.as_raw_fd(), woken.as_raw_fd()) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::warn!("no more readers are answered: {error}");
                return;
            }
        };
        if readers.fetch_add(1, Ordering::AcqRel) >= READERS_MAX {
            readers.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (told, leaving) = (told.clone(), Arc::clone(&readers));
        let answering = std::thread::Builder::new().name("checkpoint-reader".to_owned()).spawn(move || {
            if let Err(error) = answer(stream, &told) {
                tracing::debug!("a reader was not answered: {error}");
            }
            leaving.fetch_sub(1, Ordering::AcqRel);
        });
        if let Err(error) = answering {
            readers.fetch_sub(1, Ordering::AcqRel);
            tracing::warn!("a reader was turned away: {error}");
        }
    }
}

/// Waits for a reader; false once the server is to stop.
fn wait(listener: RawFd, woken: RawFd) -> bool {
    let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut watched = [watch(listener), watch(woken)];
    // SAFETY: `watched` is an array of two initialised entries that outlives the call.
    unsafe { libc::poll(watched.as_mut_ptr(), 2, -1) };
    watched[1].revents == 0
}

fn answer(mut stream: UnixStream, told: &Told) -> Result<()> {
    let fail = |error: io::Error| Error::failed("the connection failed").because(error.to_string());
    stream.set_nonblocking(false).map_err(fail)?;
    stream.set_read_timeout(Some(wire::PATIENCE)).map_err(fail)?;
    stream.set_write_timeout(Some(wire::PATIENCE)).map_err(fail)?;
    let mut greeting = [0; wire::GREETING.len()];
    stream.read_exact(&mut greeting).map_err(fail)?;
    match greeting {
        wire::GREETING => {
            let (part, entries) = told.log.read(|store, part| Ok((part, store.entries()?)))?;
            wire::send(&mut io::BufWriter::new(stream), part, &entries).map_err(fail)
        }
        wire::SINCE_GREETING => {
            let mut first = [0; 8];
            stream.read_exact(&mut first).map_err(fail)?;
            let first = u64::from_be_bytes(first);
            let (part, entries) = told.log.read(move |store, part| Ok((part, store.entries_from(first)?)))?;
            wire::send(&mut io::BufWriter::new(stream), part, &entries).map_err(fail)
        }
        wire::ACTIVITY_GREETING => wire::send_activity(&mut stream, told.said.now()).map_err(fail),
        _ => Err(Error::failed("the question is not a reader's")),
    }
}
