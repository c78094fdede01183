//! `highwater top`: what a job does, live in a terminal; of a stopped job, what it did last.
//!
//! `watch` reads the checkpoint again and again on a thread of its own, as any reader does; `draw` makes a screen of what was
//! read, with its `panes`, of `columns` that fit; `shown` is a result; this file has the keys, and leaves the terminal as it was.

mod columns;
mod draw;
mod panes;
mod shown;
mod watch;

use std::{
    io::{self, IsTerminal},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use watch::{Seen, Watching};

use super::{args::TopArgs, signals, streams::Failure};
use crate::{
    batch::clock::now_us,
    model::{BatchId, Error},
};

/// How long a key press may wait for the screen; a signal, too.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the person at the keyboard wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Counted beyond the last query, it begins anew.
    pub query: usize,
    /// Whose result; `None`: the newest, as it moves on.
    pub at: Option<BatchId>,
    /// What changed since this batch, in place of the result.
    pub mark: Option<BatchId>,
    /// A table in place of bars.
    pub as_table: bool,
    /// The plan in place of the batches.
    pub plan: bool,
    /// Rows of the result that are scrolled over.
    pub scroll: usize,
}

pub fn top(args: &TopArgs) -> Result<(), Failure> {
    if !io::stdout().is_terminal() {
        return Err(Error::usage("top wants a terminal")
            .because("stdout is a file or a pipe")
            .help("for programs there are `highwater log --json` and `highwater show`")
            .into());
    }
    let stop = signals::stop_flag()?;
    // what is wrong with the checkpoint is said on a terminal that is still as it was
    let mut watching = Watching::start(&args.checkpoint, args.interval)?;
    let mut terminal = ratatui::try_init().map_err(|cause| unusable(&cause))?;
    let ended = watch(&mut terminal, &mut watching, &args.checkpoint, &stop);
    let restored = ratatui::try_restore().map_err(|cause| unusable(&cause));
    ended.and(restored).map_err(Failure::from)
}

fn unusable(cause: &io::Error) -> Error {
    Error::failed("the terminal cannot be used").because(cause.to_string())
}

/// Draws what is new and takes keys, until there is enough.
fn watch(
    terminal: &mut DefaultTerminal,
    watching: &mut Watching,
    checkpoint: &Path,
    stop: &AtomicBool,
) -> Result<(), Error> {
    let mut wanted = Wanted::default();
    while !stop.load(Ordering::Relaxed) {
        let seen = watching.newest();
        let drawn = terminal.draw(|frame| draw::screen(frame, checkpoint, seen, &wanted, now_us()));
        drawn.map_err(|cause| unusable(&cause))?;
        if !event::poll(PATIENCE).map_err(|cause| unusable(&cause))? {
            continue;
        }
        if let Event::Key(key) = event::read().map_err(|cause| unusable(&cause))?
            && key.kind != KeyEventKind::Release
        {
            match pressed(key, &wanted, watching.newest()) {
                Some(next) => wanted = next,
                None => return Ok(()),
            }
            watching.want(&wanted);
        }
    }
    Ok(())
}

/// What is wanted after a key; `None`: nothing any more.
fn pressed(key: KeyEvent, wanted: &Wanted, seen: &Seen) -> Option<Wanted> {
    let mut next = wanted.clone();
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return None,
        // the terminal does not make signals of keys now
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return None,
        KeyCode::Tab => next = Wanted { query: wanted.query + 1, scroll: 0, ..next },
        KeyCode::Left => next.at = seen.batch_before(wanted.at),
        KeyCode::Right => next.at = seen.batch_after(wanted.at),
        KeyCode::Char('n') => next.at = None,
        KeyCode::Char('m') => {
            let shown = wanted.at.or_else(|| seen.newest());
            next = Wanted { mark: if wanted.mark.is_some() { None } else { shown }, scroll: 0, ..next };
        }
        KeyCode::Char('t') => next = Wanted { as_table: !wanted.as_table, scroll: 0, ..next },
        KeyCode::Char('p') => next.plan = !wanted.plan,
        KeyCode::Up => next.scroll = wanted.scroll.saturating_sub(1),
        KeyCode::Down => next.scroll = (wanted.scroll + 1).min(seen.last_row(wanted.as_table)),
        KeyCode::PageUp => next.scroll = wanted.scroll.saturating_sub(10),
        KeyCode::PageDown => next.scroll = (wanted.scroll + 10).min(seen.last_row(wanted.as_table)),
        _ => {}
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(keys: &[KeyCode], seen: &Seen) -> Option<Wanted> {
        let press = |wanted: Wanted, code: &KeyCode| pressed(KeyEvent::from(*code), &wanted, seen);
        keys.iter().try_fold(Wanted::default(), press)
    }

    #[test]
    fn keys_choose_query_batch_and_shape() {
        let seen = watch::tests::seen(&[3, 4, 6]);
        let at = |keys: &[KeyCode]| after(keys, &seen).unwrap().at;
        assert_eq!(at(&[KeyCode::Left]), Some(BatchId(4)), "the one before the newest");
        assert_eq!(at(&[KeyCode::Left, KeyCode::Left, KeyCode::Left]), Some(BatchId(3)), "there is none before");
        assert_eq!(at(&[KeyCode::Left, KeyCode::Left, KeyCode::Right]), Some(BatchId(4)));
        assert_eq!(at(&[KeyCode::Left, KeyCode::Right]), None, "the newest, as it moves on");
        assert_eq!(at(&[KeyCode::Left, KeyCode::Char('n')]), None);
        assert_eq!(after(&[KeyCode::Tab, KeyCode::Tab], &seen).unwrap().query, 2);
        assert!(after(&[KeyCode::Char('t')], &seen).unwrap().as_table);
        let mark = |keys: &[KeyCode]| after(keys, &seen).unwrap().mark;
        assert_eq!(mark(&[KeyCode::Char('m')]), Some(BatchId(6)), "the newest, as it is now");
        assert_eq!(mark(&[KeyCode::Left, KeyCode::Char('m'), KeyCode::Char('n')]), Some(BatchId(4)));
        assert_eq!(mark(&[KeyCode::Char('m'), KeyCode::Left, KeyCode::Char('m')]), None, "no mark any more");
        assert_eq!(after(&[KeyCode::Down, KeyCode::PageDown], &seen).unwrap().scroll, seen.last_row(false));
        assert_eq!(after(&[KeyCode::Char('q')], &seen), None);
        let stop = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(pressed(stop, &Wanted::default(), &seen), None);
    }
}
