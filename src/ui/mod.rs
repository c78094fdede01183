//! The page that shows what a job does, and its figures for programs: `highwater run --ui 127.0.0.1:4040`.
//!
//! It never stops or slows the job. The job's thread writes what happens on a [`board`], which costs a lock and a copy; all
//! else is done on one thread of the page's own, and what blocks (reading results from the checkpoint, as any other process
//! may) on two more beside it. Nothing can be changed by it: it answers GET and HEAD.
//!
//! - [`board`]: what is known of the job, without a web; [`bars`]: what of a result is drawn as bars; `html`, `axis`, `charts`,
//!   `plan_picture`, `results`, `header`, `travel`, `page`: from there to HTML; `events`: what is rendered once for all who watch
//! - `api`, `metrics`: the same for programs; `asking`: questions to the checkpoint, `question`: those in SQL
//! - `guard`: who may ask; `connection`: how long; `server`: the routes

mod api;
mod asking;
pub mod axis;
pub mod bars;
pub mod board;
mod charts;
mod connection;
mod events;
mod guard;
mod header;
mod html;
mod metrics;
mod page;
mod plan_picture;
mod question;
mod results;
mod server;
mod travel;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
    task::JoinError,
    time::error::Elapsed,
};

use crate::{
    batch::{Event, View, clock::now_us},
    model::{Error, Result},
};
pub use html::{bytes, duration};

use asking::Asking;
use board::Board;
use connection::Limited;
use events::{Renderer, Results};
use guard::{Guard, Token};
use server::App;

/// Threads for what blocks: one question, and what is let go of.
const BLOCKING_MAX: usize = 2;

/// How long the end of a process may wait for those who watch to be told, at most.
const GRACE: Duration = Duration::from_secs(2);

/// How long it waits for answers that are under way.
const GRACE_OF_ANSWERS: Duration = Duration::from_millis(300);

/// Where the page is served, and for what. Not to be shown: the token is a secret.
pub struct PageOptions {
    /// `address:port`; port 0 is a free one.
    pub listen: String,
    /// What whoever asks must show; needed where others can reach the address.
    pub token: Option<String>,
    /// Names that it may be asked by, besides `localhost` and addresses.
    pub hosts: Vec<String>,
    /// The job's name.
    pub job: String,
    /// Where its results are read from.
    pub checkpoint: PathBuf,
}

/// The page of a job, served until it is ended.
pub struct Page {
    board: Arc<Board>,
    checkpoint: PathBuf,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Page {
    /// Takes the address and begins to serve; the job may be opened later.
    ///
    /// # Errors
    /// Of kind `Usage` for an address that cannot be had, or that others can reach without a token; `Failed` for one that is
    /// taken.
    pub fn start(options: PageOptions) -> Result<Page> {
        let token = options.token.as_deref().map(Token::new).transpose()?;
        let listen = guard::address(&options.listen, token.as_ref())?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("ui-blocking")
            .max_blocking_threads(BLOCKING_MAX)
            .build()
            .map_err(|cause| Error::failed("the page cannot be served").because(cause.to_string()))?;
        let bound = runtime.block_on(async { TcpListener::bind(listen).await });
        let cannot = |cause: std::io::Error| {
            let what = format!("the page cannot be served on {listen}");
            // another try may find it free
            let is_taken = cause.kind() == std::io::ErrorKind::AddrInUse;
            let error = if is_taken { Error::failed(what) } else { Error::usage(what) };
            error
                .because(cause.to_string())
                .help("give --ui another address or port (port 0: a free one), or end what has it")
        };
        let listener = bound.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let board = Arc::new(Board::new(&options.job, now_us()));
        let guard = Guard::new(token, &options.hosts, address.port());
        let (stop, stopped) = watch::channel(false);
        let serving = Serving { board: Arc::clone(&board), checkpoint: options.checkpoint.clone(), guard, stopped };
        let thread = std::thread::Builder::new()
            .name("ui".to_owned())
            .spawn(move || serving.run(runtime, listener))
            .map_err(|cause| Error::failed("the page cannot be served").because(cause.to_string()))?;
        Ok(Page { board, checkpoint: options.checkpoint, address, stop, thread })
    }

    /// Where it is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes down what happened; for the job's thread.
    pub fn event(&self, event: &Event<'_>) {
        self.board.event(event, now_us());
        // charts begin with what the log knows; reading it is not the job's business
        if let Event::Opened { newest: Some(_), .. } = event {
            let (board, checkpoint) = (Arc::clone(&self.board), self.checkpoint.clone());
            let reading = std::thread::Builder::new().name("ui-log".to_owned()).spawn(move || {
                match View::open(&checkpoint).and_then(|view| view.log_of_newest(board::BATCHES_KEPT)) {
                    Ok(rows) => board.remember(rows),
                    Err(error) => tracing::info!("the page begins without earlier batches: {error}"),
                }
            });
            if let Err(error) = reading {
                tracing::info!("the page begins without earlier batches: {error}");
            }
        }
    }

    /// The job is over; `error`: why it failed. Whoever watches is told, and what is under way is answered, both for a short
    /// time only.
    ///
    /// # Errors
    /// Of kind `Failed`, where the page did not work to its end.
    pub fn end(self, error: Option<String>) -> Result<()> {
        self.board.ended(error);
        // without a receiver it has ended already, and says so below
        self.stop.send_replace(true);
        self.thread.join().map_err(|panic| {
            Error::failed("the page ended before the job").because(crate::model::error::panic_text(panic.as_ref()))
        })
    }
}

/// What the page's thread has.
struct Serving {
    board: Arc<Board>,
    checkpoint: PathBuf,
    guard: Guard,
    stopped: watch::Receiver<bool>,
}

impl Serving {
    fn run(self, runtime: Runtime, listener: TcpListener) {
        let asking = Arc::new(Asking::new(self.checkpoint, Arc::clone(&self.board)));
        runtime.block_on(async {
            let results = Results::new();
            let renderer = Renderer::new(Arc::clone(&self.board), Arc::clone(&asking), Arc::clone(&results));
            let app = Arc::new(App {
                board: Arc::clone(&self.board),
                asking: Arc::clone(&asking),
                results: Arc::clone(&results),
                guard: self.guard,
                frames: renderer.frames(),
                watchers: AtomicUsize::new(0),
            });
            let mut stopped = self.stopped.clone();
            let rendering = tokio::spawn(renderer.run(self.stopped.clone()));
            let reading = tokio::spawn(results.keep_fresh(Arc::clone(&self.board), Arc::clone(&asking)));
            let mut until = stopped.clone();
            let serving = tokio::spawn(async move {
                let ended =
                    axum::serve(Limited::new(listener), server::router(app)).with_graceful_shutdown(async move {
                        if until.wait_for(|stop| *stop).await.is_err() {
                            tracing::debug!("the job went without a word");
                        }
                    });
                if let Err(error) = ended.await {
                    tracing::warn!("the page is no longer served: {error}");
                }
            });
            if stopped.wait_for(|stop| *stop).await.is_err() {
                tracing::debug!("the job went without a word");
            }
            reading.abort();
            // the last rendering, then the end of what is under way; a thread that still reads is not waited for
            let rendered = whole(tokio::time::timeout(GRACE, rendering).await);
            if !(whole(tokio::time::timeout(GRACE_OF_ANSWERS, serving).await) && rendered) {
                tracing::debug!("an answer was cut off by the end of the job");
            }
        });
        runtime.shutdown_timeout(Duration::ZERO);
    }
}

/// Whether a task came to its end in time; its panic is that of whoever waits for it.
fn whole(ended: std::result::Result<std::result::Result<(), JoinError>, Elapsed>) -> bool {
    match ended {
        Ok(Ok(())) => true,
        Ok(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => false,
    }
}
