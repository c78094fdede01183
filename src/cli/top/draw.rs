//! One screen: what the job is at and what is promised; below it how it went, its batches, a result.

use std::path::Path;

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{
    Wanted,
    columns::flowing,
    panes::{charts_height, draw_batches, draw_charts, draw_plan, draw_result},
    watch::Seen,
};
use crate::{
    batch::LogRow,
    model::error::printable,
    progress::numbers::{count, grouped},
    sink::Guarantee,
    ui::{
        board::{Lag, Measured, PHASES, State, phases_ms, state_bytes},
        bytes, duration,
    },
};

pub(super) const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const TROUBLE: Style = Style::new().fg(Color::Red);

/// The keys, those that are needed most first.
const KEYS: [&str; 9] = [
    "q quit",
    "tab query",
    "left, right batch",
    "n newest",
    "m mark",
    "t table or bars",
    "p plan",
    "up, down scroll",
    "page up, down",
];
const BETWEEN_KEYS: &str = "   ";

/// Lines that a text about trouble may take.
const TROUBLE_LINES_MAX: usize = 3;

/// Draws what was seen of a checkpoint. `now_us`: microseconds since the Unix epoch.
pub(super) fn screen(frame: &mut Frame<'_>, checkpoint: &Path, seen: &Seen, wanted: &Wanted, now_us: i64) {
    let area = frame.area();
    let width = usize::from(area.width);
    let told = troubles(seen, width);
    let mut head = vec![title(checkpoint, seen, width, now_us)];
    head.extend(header(seen, width, now_us).into_iter().map(Line::from));
    // what matters most is above; the panes keep their half
    head.truncate(usize::from(area.height / 2).max(1));
    let parts = [head.len() as u16, told.len() as u16, charts_height(area)].map(Constraint::Length);
    let rest = [Constraint::Min(4), Constraint::Length(1)];
    let [above, trouble, charts, body, keys] = Layout::vertical(parts.into_iter().chain(rest)).areas(area);
    frame.render_widget(Paragraph::new(head), above);
    frame.render_widget(Paragraph::new(told), trouble);
    draw_charts(frame, charts, area, seen);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(body);
    if wanted.plan {
        draw_plan(frame, left, seen)
    } else {
        draw_batches(frame, left, seen, wanted)
    }
    draw_result(frame, right, seen, wanted);
    let help = flowing(&KEYS.map(str::to_owned), BETWEEN_KEYS, width).swap_remove(0);
    frame.render_widget(Paragraph::new(Span::styled(help, FAINT)), keys);
}

/// What went wrong, as long as it may be.
fn troubles(seen: &Seen, width: usize) -> Vec<Line<'static>> {
    let all = seen.trouble.iter().chain(&seen.warnings);
    let lines = all.flat_map(|text| {
        let words: Vec<String> = printable(text).split_whitespace().map(str::to_owned).collect();
        flowing(&words, " ", width).into_iter().take(TROUBLE_LINES_MAX)
    });
    lines.map(|line| Line::styled(line, TROUBLE)).collect()
}

/// What the job is at, in a word.
fn state(seen: &Seen, now_us: i64) -> &'static str {
    let Some(activity) = seen.activity else { return "stopped" };
    let newest = seen.batches.last();
    let files_left = newest.map_or(0, |row| Lag::after(&row.progress).files);
    let files_newest = newest.map_or(0, |row| row.files.len() as u64);
    let age_us = newest.map(|row| now_us - row.committed_at_us);
    State::of_open(activity.at_work.is_some(), files_left, files_newest, age_us).word()
}

/// The job, its state, since when it runs, the batch at work; and where all this is from, if there is room.
fn title(checkpoint: &Path, seen: &Seen, width: usize, now_us: i64) -> Line<'static> {
    let state = state(seen, now_us);
    let mut parts = Vec::new();
    if let Some(activity) = seen.activity {
        parts.extend(activity.since_us.map(|since| format!("up {}", age(now_us - since))));
        let at_work = activity.at_work;
        parts.extend(at_work.map(|(batch, since)| format!("batch {batch} at work, {}", age(now_us - since))));
    }
    parts.push(printable(&checkpoint.display().to_string()));
    let job = printable(&seen.job);
    let taken = job.chars().count() + state.len() + 4;
    let fits = flowing(&parts, "  ", width.saturating_sub(taken)).swap_remove(0);
    let spans = [Span::styled(job, STRONG), Span::styled(format!("  {state}"), STRONG.fg(Color::Green))];
    Line::from_iter(spans.into_iter().chain([Span::styled(format!("  {fits}"), FAINT)]))
}

/// Whole seconds, minutes and so on, as the page has them.
fn age(us: i64) -> String {
    let ms = us.max(0) as u64 / 1000;
    duration(if ms < 1000 { ms } else { ms / 1000 * 1000 })
}

/// The newest batch, what waits, what is kept, what is promised, how long things took; all parts whole.
fn header(seen: &Seen, width: usize, now_us: i64) -> Vec<String> {
    let mut lines = Vec::new();
    match seen.batches.last() {
        None => lines.push("no batch yet".to_owned()),
        Some(newest) => {
            let committed = (now_us - newest.committed_at_us).max(0) as f64 / 1e6;
            let mut parts = vec![format!("batch {}, committed {committed:.1} s before", newest.address)];
            parts.extend(newest.progress.event_time.watermark.as_ref().map(|time| format!("watermark {time}")));
            lines.extend(flowing(&parts, ", ", width));
            lines.extend(flowing(&[waiting(newest, seen.unit, now_us), kept(newest)], "; ", width));
        }
    }
    lines.extend(flowing(&promises(seen), "; ", width));
    // how long the newest took is in the log only with the next
    if let Some(known) = seen.batches.iter().rfind(|row| row.progress.batch_duration.is_some()) {
        let took = PHASES.iter().zip(phases_ms(&known.progress));
        let mut phases: Vec<String> = took.map(|(phase, ms)| format!("{phase} {}", grouped(ms))).collect();
        phases[0] = format!("batch {} took, in ms: {}", known.address.batch, phases[0]);
        lines.extend(flowing(&phases, ", ", width));
    }
    lines
}

/// What waits, and when it was found to.
fn waiting(newest: &LogRow, unit: &str, now_us: i64) -> String {
    let Measured { lag, at_us, .. } = Measured::by(&newest.progress, newest.committed_at_us);
    let size = lag.bytes.map(|size| format!(", {}", bytes(size))).unwrap_or_default();
    let batch = newest.address.batch;
    format!("waiting: {}{size}, as of batch {batch}, {} ago", count(lag.files, unit), age(now_us - at_us))
}

fn kept(newest: &LogRow) -> String {
    format!("state: {}, {}", count(newest.state_rows, "row"), bytes(state_bytes(&newest.progress)))
}

/// What is promised of which queries' rows.
fn promises(seen: &Seen) -> Vec<String> {
    let of = |guarantee: Guarantee| {
        let sinks = seen.sinks.iter().filter(|sink| sink.guarantee == guarantee);
        let names: Vec<String> = sinks.map(|sink| format!("{} into {}", sink.query, sink.sink)).collect();
        names.into_iter().enumerate().map(move |(place, name)| match place {
            0 => format!("{guarantee}: {}", printable(&name)),
            _ => printable(&name),
        })
    };
    of(Guarantee::ExactlyOnce).chain(of(Guarantee::AtLeastOnce)).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::watch::tests::seen, *};
    use crate::{batch::SinkFacts, model::BatchId};

    const NOW_US: i64 = 1_700_000_003_000_000;

    fn drawn(width: u16, height: u16, seen: &Seen, wanted: &Wanted) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen(frame, Path::new("ck"), seen, wanted, NOW_US)).unwrap();
        terminal.backend().to_string()
    }

    fn working(mut seen: Seen) -> Seen {
        seen.activity = seen.activity.map(|activity| crate::checkpoint::Activity {
            at_work: Some((BatchId(9), NOW_US - 12_000_000)),
            ..activity
        });
        seen
    }

    #[test]
    fn a_screen_tells_what_the_job_is_at() {
        let text = drawn(140, 30, &working(seen(&[7, 8])), &Wanted::default());
        for part in [
            "web_servers  catching up  up 3 min 23 s  batch 9 at work, 12 s  ck",
            "batch 8@0, committed 3.0 s before, watermark 2024-01-01T00:00:00.000Z",
            "waiting: 3 files, 2.0 KiB, as of batch 8, 5 s ago; state: 700 rows, 1.0 MiB",
            "exactly once: counts into memory[counts]",
            "rows/s 84.7k",
            "ms a batch 118",
            "state rows 700",
            "bad rows 1",
            "late rows 2",
            "state size 1.0 MiB",
            "batch 8 took, in ms: plan 1, read 50, step 60",
            "flows-8.json",
            "counts as of batch 8@0: 2 rows",
            "count by device",
            "Comp2",
            "m mark",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "control characters are escaped");
    }

    #[test]
    fn what_has_no_room_is_left_out_whole() {
        let narrow = drawn(60, 30, &working(seen(&[7, 8])), &Wanted { as_table: true, ..Wanted::default() });
        for part in [
            "web_servers  catching up  up 3 min 23 s",
            "watermark 2024-01-01T00:00:00.000Z",
            "state: 700 rows, 1.0 MiB",
            "exactly once: counts into memory[counts]",
            "publish 0, upkeep 2",
            "rows/s 84.7k",
            "watermark gap",
            "│batch committed rows   ms",
            "│7@0   22:13:20  10,000 118",
            "| device",
            "q quit   tab query   left, right batch   n newest   m mark",
        ] {
            assert!(narrow.contains(part), "{part}\n{narrow}");
        }
        for part in ["bad", "late", "files  ", "state size", "p plan", "  ck"] {
            assert!(!narrow.contains(part), "{part}\n{narrow}");
        }
        let wider = drawn(80, 30, &seen(&[7, 8]), &Wanted::default());
        assert!(
            wider.contains("input rows/s") && wider.contains("late rows") && !wider.contains("bad rows"),
            "{wider}"
        );
        assert!(wider.contains("batch committed rows   bad late ms"), "{wider}");
    }

    #[test]
    fn a_result_is_bars_or_a_table() {
        let bars = drawn(100, 24, &seen(&[1]), &Wanted::default());
        assert!(bars.contains("\u{2588} 40"), "{bars}");
        let table = drawn(100, 24, &seen(&[1]), &Wanted { as_table: true, ..Wanted::default() });
        assert!(table.contains("| Comp2") && table.contains("| device"), "{table}");
        let scrolled = drawn(100, 24, &seen(&[1]), &Wanted { as_table: true, scroll: 1, ..Wanted::default() });
        assert!(scrolled.contains("| device") && !scrolled.contains("u{1b}"), "{scrolled}");
    }

    #[test]
    fn what_changed_since_a_mark_is_a_table() {
        let mut seen = seen(&[1, 2]);
        let result = seen.result.as_mut().unwrap();
        result.since = Some(seen.batches[0].address);
        result.bars.clear();
        let text = drawn(120, 30, &seen, &Wanted { mark: Some(BatchId(1)), ..Wanted::default() });
        for part in ["counts: 2 changes since batch 1@0", "as of batch 2@0", "1@0*", "| Comp2"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_plan_leads_from_sources_to_sinks() {
        let text = drawn(120, 30, &seen(&[1]), &Wanted { plan: true, ..Wanted::default() });
        for part in ["from files: 3 files left", "aggregate: 700 rows, 1.0 MiB", "into memory[counts]: exactly once"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn promises_are_told_by_what_they_are() {
        let mut seen = seen(&[1]);
        let sink = |query: &str, guarantee| SinkFacts { query: query.into(), sink: format!("{query}[]"), guarantee };
        seen.sinks = vec![
            sink("a", Guarantee::AtLeastOnce),
            sink("b", Guarantee::ExactlyOnce),
            sink("c", Guarantee::ExactlyOnce),
        ];
        assert_eq!(promises(&seen), ["exactly once: b into b[]", "c into c[]", "at least once: a into a[]"]);
    }

    #[test]
    fn states_have_a_word_each() {
        let mut at = seen(&[1]);
        assert_eq!(state(&at, NOW_US), "catching up");
        at.batches[0].progress.sources.clear();
        assert_eq!(state(&at, NOW_US), "idle");
        assert_eq!(state(&at, at.batches[0].committed_at_us), "running");
        assert_eq!(state(&working(at.clone()), NOW_US), "running", "however long its batch takes");
        at.activity = None;
        assert_eq!(state(&at, NOW_US), "stopped");
        assert_eq!(state(&Seen::default(), NOW_US), "stopped");
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small() {
        let seen = Seen { trouble: Some("a\nb".to_owned()), ..working(seen(&[1, 2, 3])) };
        for (width, height) in [(1, 1), (10, 3), (20, 8), (40, 12), (300, 4), (3, 80), (60, 60)] {
            for plan in [false, true] {
                drawn(width, height, &seen, &Wanted { scroll: 5, plan, ..Wanted::default() });
                drawn(width, height, &Seen::default(), &Wanted { as_table: true, plan, ..Wanted::default() });
            }
        }
    }
}
