//! One screen: what the job is at, how it went, its batches, a result.

use std::path::Path;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Sparkline, Table},
};

use super::{
    Wanted,
    watch::{Seen, Shown},
};
use crate::{
    batch::LogRow,
    model::error::printable,
    progress::{
        numbers::{count, grouped, short},
        timestamp,
    },
    ui::board::{Lag, PHASES, State, phases_ms, state_bytes, watermark_gap_ms},
};

/// The part of a line that a bar's label may take.
const LABEL_SHARE: usize = 2;

const STRONG: Style = Style::new().add_modifier(Modifier::BOLD);
const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const TROUBLE: Style = Style::new().fg(Color::Red);

/// Draws what was seen of a checkpoint. `now_us`: microseconds since the Unix epoch.
pub(super) fn screen(frame: &mut Frame<'_>, checkpoint: &Path, seen: &Seen, wanted: &Wanted, now_us: i64) {
    let told = troubles(seen);
    let area = frame.area();
    let charts = if area.height >= 24 { 8 } else { 0 };
    let parts = [4, told.len() as u16, charts].map(Constraint::Length);
    let rest = [Constraint::Min(4), Constraint::Length(1)];
    let [head, trouble, charts, body, keys] = Layout::vertical(parts.into_iter().chain(rest)).areas(area);
    frame.render_widget(Paragraph::new(header(checkpoint, seen, now_us)), head);
    frame.render_widget(Paragraph::new(told), trouble);
    draw_charts(frame, charts, seen);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(body);
    if wanted.plan {
        draw_plan(frame, left, seen)
    } else {
        draw_batches(frame, left, seen, wanted)
    }
    draw_result(frame, right, seen, wanted);
    let help = "q quit   tab query   left, right batch   n newest   t table or bars   p plan   up, down scroll";
    frame.render_widget(Paragraph::new(Span::styled(help, FAINT)), keys);
}

fn troubles(seen: &Seen) -> Vec<Line<'static>> {
    let all = seen.trouble.iter().chain(&seen.warnings);
    all.map(|text| Line::styled(printable(text).replace('\n', " "), TROUBLE)).collect()
}

/// What the job is at, in a word.
fn state(seen: &Seen, now_us: i64) -> &'static str {
    let newest = seen.batches.last();
    let files_left = newest.map_or(0, |row| Lag::after(&row.progress).files);
    let files_newest = newest.map_or(0, |row| row.files.len() as u64);
    let age_us = newest.map(|row| now_us - row.committed_at_us);
    if seen.running { State::of_open(false, files_left, files_newest, age_us).word() } else { "stopped" }
}

fn header(checkpoint: &Path, seen: &Seen, now_us: i64) -> Vec<Line<'static>> {
    let place = format!("  {}", printable(&checkpoint.display().to_string()));
    let state = Span::styled(format!("  {}", state(seen, now_us)), STRONG.fg(Color::Green));
    let title =
        Line::from(vec![Span::styled(printable(&seen.job).to_string(), STRONG), state, Span::styled(place, FAINT)]);
    let Some(newest) = seen.batches.last() else { return vec![title, Line::from("no batch yet")] };
    let age = (now_us - newest.committed_at_us).max(0) as f64 / 1e6;
    let watermark = newest.progress.event_time.watermark.as_ref();
    let lag = Lag::after(&newest.progress);
    let took = PHASES.iter().zip(phases_ms(&newest.progress));
    let phases: Vec<String> = took.map(|(phase, ms)| format!("{phase} {}", grouped(ms))).collect();
    vec![
        title,
        Line::from(format!(
            "batch {}, committed {age:.1} s before{}",
            newest.address,
            watermark.map(|time| format!(", watermark {time}")).unwrap_or_default(),
        )),
        Line::from(format!(
            "waiting: {}{}; state: {}, {}",
            count(lag.files, "file"),
            lag.bytes.map(|size| format!(", {}", bytes(size))).unwrap_or_default(),
            count(newest.state_rows, "row"),
            bytes(state_bytes(&newest.progress)),
        )),
        Line::from(format!("phases, ms: {}", phases.join(", "))),
    ]
}

/// `1048576` as `1.0 MiB`.
fn bytes(number: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB")];
    let number = number as f64;
    match UNITS.iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", number / size),
        None => format!("{number} B"),
    }
}

/// What a chart shows of a batch, its colour, and how a value is written.
struct Chart {
    name: &'static str,
    color: Color,
    of: fn(&LogRow) -> Option<u64>,
    written: fn(u64) -> String,
}

/// Two rows of four, as on the page; the phases have a line of their own.
const CHARTS: [Chart; 8] = [
    Chart {
        name: "input rows/s",
        color: Color::Green,
        of: |row| row.progress.input_rows_per_second.map(|rate| rate as u64),
        written: thousands,
    },
    Chart {
        name: "rows/s",
        color: Color::Green,
        of: |row| row.progress.processed_rows_per_second.map(|rate| rate as u64),
        written: thousands,
    },
    Chart { name: "ms a batch", color: Color::Cyan, of: |row| row.progress.batch_duration, written: thousands },
    Chart {
        name: "watermark gap, s",
        color: Color::Magenta,
        of: |row| watermark_gap_ms(&row.progress).map(|gap| gap.max(0) as u64 / 1000),
        written: thousands,
    },
    Chart { name: "state rows", color: Color::Blue, of: |row| Some(row.state_rows), written: thousands },
    Chart { name: "state size", color: Color::Blue, of: |row| Some(state_bytes(&row.progress)), written: bytes },
    Chart { name: "bad rows", color: Color::Yellow, of: |row| Some(row.bad_rows), written: thousands },
    Chart { name: "late rows", color: Color::Yellow, of: |row| Some(row.progress.num_late_rows), written: thousands },
];

fn thousands(number: u64) -> String {
    short(number as f64)
}

fn draw_charts(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let rows: [Rect; 2] = Layout::vertical([Constraint::Fill(1); 2]).areas(area);
    let areas = rows.map(|row| Layout::horizontal([Constraint::Fill(1); 4]).areas::<4>(row));
    for (chart, area) in CHARTS.iter().zip(areas.iter().flatten()) {
        let width = usize::from(area.width.saturating_sub(2));
        let shown = seen.batches.iter().skip(seen.batches.len().saturating_sub(width));
        let values: Vec<Option<u64>> = shown.map(chart.of).collect();
        let newest = values.iter().rev().find_map(|value| *value);
        let title = format!("{} {}", chart.name, newest.map(chart.written).unwrap_or_default());
        frame.render_widget(
            Sparkline::default().block(Block::bordered().title(title)).style(chart.color).data(values),
            *area,
        );
    }
}

/// What leads where, as of the newest batch: sources, what queries keep, sinks.
fn draw_plan(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let Some(newest) = seen.batches.last() else { return };
    let progress = &newest.progress;
    let mut lines: Vec<Line<'static>> = Vec::new();
    for source in &progress.sources {
        let waits = count(source.files_left, "file");
        lines.push(Line::from(format!("from {}: {waits} left", printable(&source.description))));
    }
    for sink in &progress.sinks {
        lines.push(Line::styled(printable(&sink.query).to_string(), STRONG));
        for operator in progress.state_operators.iter().filter(|operator| operator.query == sink.query) {
            let (rows, size) = (count(operator.num_rows_total, "row"), bytes(operator.memory_used_bytes));
            lines.push(Line::from(format!("  {}: {rows}, {size}", operator.operator_name)));
        }
        lines.push(Line::from(format!("  into {}", printable(&sink.description))));
    }
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("plan")), area);
}

fn draw_batches(frame: &mut Frame<'_>, area: Rect, seen: &Seen, wanted: &Wanted) {
    let header = Row::new(["batch", "committed", "rows", "bad", "late", "ms", "files"]).style(FAINT);
    let fits = usize::from(area.height.saturating_sub(3));
    let newest = seen.batches.last().map(|row| row.address.batch);
    let chosen = wanted.at.or(newest);
    // the chosen one is in sight
    let above = seen.batches.iter().rev().position(|row| Some(row.address.batch) == chosen).unwrap_or(0);
    let rows = seen.batches.iter().rev().skip((above + 1).saturating_sub(fits)).take(fits).map(|row| {
        let time = timestamp(row.committed_at_us);
        let cells = [
            row.address.to_string(),
            // the time of day
            time.get(11..19).unwrap_or(&time).to_owned(),
            grouped(row.rows),
            grouped(row.bad_rows),
            grouped(row.progress.num_late_rows),
            row.progress.batch_duration.map_or_else(|| "-".to_owned(), grouped),
            printable(&row.files.join(", ")).to_string(),
        ];
        let style = if Some(row.address.batch) == chosen { STRONG.fg(Color::Cyan) } else { Style::new() };
        Row::new(cells).style(style)
    });
    let widths = [7, 8, 9, 5, 5, 6].map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    frame.render_widget(Table::new(rows, widths).header(header).block(Block::bordered().title("batches")), area);
}

fn draw_result(frame: &mut Frame<'_>, area: Rect, seen: &Seen, wanted: &Wanted) {
    let Some(result) = &seen.result else {
        frame.render_widget(Block::bordered().title("result"), area);
        return;
    };
    let query = printable(&result.query).to_string();
    let title = format!("{query} as of batch {}: {}", result.at, count(result.rows as u64, "row"));
    let lines = if wanted.as_table || result.bars.is_empty() {
        // the head of the table stays in sight
        let (head, rows) = result.table.split_at(result.table.len().min(3));
        head.iter().chain(rows.iter().skip(wanted.scroll)).map(|line| Line::from(line.clone())).collect()
    } else {
        bar_lines(result, wanted.scroll, usize::from(area.width.saturating_sub(2)))
    };
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), area);
}

/// A label, its bar, its number.
fn bar_lines(result: &Shown, scroll: usize, width: usize) -> Vec<Line<'static>> {
    let largest = result.bars.iter().map(|(_, number)| number.abs()).fold(0.0, f64::max);
    let numbers: Vec<String> = result.bars.iter().map(|(_, number)| plain(*number)).collect();
    let number_width = numbers.iter().map(String::len).max().unwrap_or(0);
    let longest = result.bars.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let label_width = longest.min(width / LABEL_SHARE);
    let room = width.saturating_sub(label_width + number_width + 2);
    let lines = result.bars.iter().zip(numbers).skip(scroll).map(|((label, value), number)| {
        let label: String = label.chars().take(label_width).collect();
        let filled = if largest > 0.0 { (value.abs() / largest * room as f64).round() as usize } else { 0 };
        Line::from(vec![
            Span::raw(format!("{label:label_width$} ")),
            Span::styled(format!("{:room$}", "\u{2588}".repeat(filled)), Style::new().fg(Color::Cyan)),
            Span::raw(format!(" {number:>number_width$}")),
        ])
    });
    lines.collect()
}

/// A number as people read it: whole ones grouped, others with two digits.
fn plain(number: f64) -> String {
    let whole = number.fract() == 0.0 && (0.0..1e15).contains(&number);
    if whole { grouped(number as u64) } else { format!("{number:.2}") }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::{super::watch::tests::seen, *};

    const NOW_US: i64 = 1_700_000_003_000_000;

    fn drawn(width: u16, height: u16, seen: &Seen, wanted: &Wanted) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen(frame, Path::new("ck"), seen, wanted, NOW_US)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_tells_what_the_job_is_at() {
        let text = drawn(120, 30, &seen(&[7, 8]), &Wanted::default());
        for part in [
            "web_servers  catching up  ck",
            "batch 8@0, committed 3.0 s before, watermark 2024-01-01T00:00:00.000Z",
            "waiting: 3 files, 2.0 KiB; state: 700 rows, 1.0 MiB",
            "rows/s 84.7k",
            "ms a batch 118",
            "state rows 700",
            "bad rows 1",
            "late rows 2",
            "state size 1.0 MiB",
            "phases, ms: plan 1, read 50, step 60",
            "flows-8.json",
            "counts as of batch 8@0: 2 rows",
            "Comp2",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "control characters are escaped");
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
    fn a_plan_leads_from_sources_to_sinks() {
        let mut seen = seen(&[1]);
        let sink = r#"{"description":"memory[counts]","query":"counts","numOutputRows":1,"numRowsAfterFilter":1}"#;
        seen.batches[0].progress.sinks = vec![serde_json::from_str(sink).unwrap()];
        let text = drawn(120, 30, &seen, &Wanted { plan: true, ..Wanted::default() });
        for part in ["from files: 3 files left", "aggregate: 700 rows, 1.0 MiB", "into memory[counts]"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn states_have_a_word_each() {
        let mut at = seen(&[1]);
        assert_eq!(state(&at, NOW_US), "catching up");
        at.batches[0].progress.sources.clear();
        assert_eq!(state(&at, NOW_US), "idle");
        assert_eq!(state(&at, at.batches[0].committed_at_us), "running");
        at.running = false;
        assert_eq!(state(&at, NOW_US), "stopped");
        assert_eq!(state(&Seen::default(), NOW_US), "stopped");
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small() {
        let seen = Seen { trouble: Some("a\nb".to_owned()), ..seen(&[1, 2, 3]) };
        for (width, height) in [(1, 1), (10, 3), (20, 8), (40, 12), (300, 4), (3, 80)] {
            drawn(width, height, &seen, &Wanted { scroll: 5, ..Wanted::default() });
            drawn(width, height, &Seen::default(), &Wanted { as_table: true, ..Wanted::default() });
        }
    }
}
