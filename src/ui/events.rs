//! What keeps the page fresh: one rendering for all who watch, at most twice a second, and of it only what changed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use super::{
    asking::{Asking, Needs},
    board::{Board, Snapshot},
    header, page, travel,
};
use crate::batch::clock::{Stopwatch, now_us};

/// Between two renderings.
const TICK: Duration = Duration::from_millis(500);

/// Between two readings of the results, at least; and so many times what the last one took, so that however large the state
/// is, reading it costs less than a hundredth of the time.
const RESULTS_EVERY: Duration = Duration::from_secs(2);
const RESULTS_SHARE: u32 = 150;

/// What was read of a checkpoint is let go of when nobody has asked for so many ticks.
const FORGET_AFTER: u32 = 120;

/// A part of the page, by the id of its element.
#[derive(Debug, Clone)]
pub struct Part {
    pub id: &'static str,
    pub html: Arc<str>,
    /// The frame that it changed in.
    pub since: u64,
}

/// The page, as it is now.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub number: u64,
    pub parts: Vec<Part>,
    /// The newest progress object, and the frame that it came in.
    pub progress: Option<(u64, Arc<str>)>,
    /// What the job was doing, in a word.
    pub state: &'static str,
    /// Whether no other one is to come.
    pub last: bool,
}

/// Renders the page while somebody watches.
pub struct Renderer {
    board: Arc<Board>,
    asking: Arc<Asking>,
    frames: watch::Sender<Arc<Frame>>,
    frame: Frame,
    /// The board's version that was rendered.
    rendered: Option<u64>,
    /// The results' own part; kept for those who come later.
    results: Arc<Results>,
}

/// Results as they were read last.
#[derive(Debug)]
pub struct Results {
    pub newest: watch::Sender<(Option<u64>, Arc<str>)>,
    /// How many want them.
    watching: AtomicUsize,
}

/// As long as it lives, somebody wants results.
pub struct Watching(Arc<Results>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watching.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Results {
    pub fn new() -> Arc<Results> {
        let empty = "<h2>Results</h2><p class=\"empty\">not read yet</p>".into();
        Arc::new(Results { newest: watch::Sender::new((None, empty)), watching: AtomicUsize::new(0) })
    }

    pub fn watch(self: &Arc<Results>) -> Watching {
        self.watching.fetch_add(1, Ordering::AcqRel);
        Watching(Arc::clone(self))
    }

    fn is_watched(&self) -> bool {
        self.watching.load(Ordering::Acquire) > 0
    }

    /// Reads them while somebody wants them and there are newer ones, never for more than a small share of the time.
    pub async fn keep_fresh(self: Arc<Results>, board: Arc<Board>, asking: Arc<Asking>) {
        let mut unused = 0;
        loop {
            let wanted = self.is_watched();
            let newest = board.high_water_mark();
            let pause = if wanted && newest.is_some() && newest != self.newest.borrow().0 {
                unused = 0;
                let watch = Stopwatch::start();
                self.read(&asking, newest).await;
                RESULTS_EVERY.max(watch.elapsed() * RESULTS_SHARE)
            } else {
                unused = (unused + 1) % FORGET_AFTER;
                // questions of others may have kept it since
                if unused == 0 {
                    let asking = Arc::clone(&asking);
                    // what is let go of may not be dropped on this thread
                    drop(tokio::task::spawn_blocking(move || asking.forget()));
                }
                TICK
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads the results once.
    pub async fn read(&self, asking: &Arc<Asking>, newest: Option<u64>) {
        match asking.ask_if_free(Needs::Up(newest), travel::live).await {
            Some(Ok((batch, html))) => drop(self.newest.send_replace((Some(batch.0), html.into()))),
            Some(Err(why)) => {
                let html = format!("<h2>Results</h2><pre class=\"error\">{}</pre>", travel::lines(&travel::said(&why)));
                drop(self.newest.send_replace((None, html.into())));
            }
            None => {}
        }
    }
}

impl Renderer {
    pub fn new(board: Arc<Board>, asking: Arc<Asking>, results: Arc<Results>) -> Renderer {
        let frames = watch::Sender::new(Arc::new(Frame::default()));
        Renderer { board, asking, frames, frame: Frame::default(), rendered: None, results }
    }

    /// What is rendered is seen here.
    pub fn frames(&self) -> watch::Sender<Arc<Frame>> {
        self.frames.clone()
    }

    /// Renders until `stop` says so, and then a last time.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let stopped = tokio::time::timeout(TICK, stop.wait_for(|stop| *stop)).await.is_ok();
            if self.frames.receiver_count() > 0 {
                if stopped && self.results.is_watched() {
                    let newest = self.board.high_water_mark();
                    self.results.read(&self.asking, newest).await;
                }
                self.render(stopped);
            }
            if stopped {
                return;
            }
        }
    }

    fn render(&mut self, last: bool) {
        let version = self.board.version();
        let known = self.board.snapshot();
        self.frame.number += 1;
        self.put("head", header::header(&known, now_us()));
        // all but ages is as it was
        if self.rendered != Some(version) {
            self.put("charts", page::charts(&known));
            self.put("plan", page::plan(&known));
            self.put("batches", page::batches(&known));
            self.rendered = Some(version);
            self.put_progress(&known);
        }
        let results = Arc::clone(&self.results.newest.borrow().1);
        self.put("results", results);
        self.frame.state = known.state(now_us()).word();
        self.frame.last = last;
        self.frames.send_replace(Arc::new(self.frame.clone()));
    }

    fn put_progress(&mut self, known: &Snapshot) {
        let Some(newest) = known.newest() else { return };
        match serde_json::to_string(newest.progress.as_ref()) {
            Ok(text) if self.frame.progress.as_ref().is_none_or(|(_, before)| **before != *text) => {
                self.frame.progress = Some((self.frame.number, text.into()));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("a progress object cannot be written: {error}"),
        }
    }

    fn put(&mut self, id: &'static str, html: impl Into<Arc<str>> + AsRef<str>) {
        let number = self.frame.number;
        match self.frame.parts.iter_mut().find(|part| part.id == id) {
            Some(part) if *part.html == *html.as_ref() => {}
            Some(part) => *part = Part { id, html: html.into(), since: number },
            None => self.frame.parts.push(Part { id, html: html.into(), since: number }),
        }
    }
}
