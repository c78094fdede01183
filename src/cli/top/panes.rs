//! The panes below the head: charts, batches or the plan, a result or what changed.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style},
    text::{Line, Span},
    widgets::{Block, Paragraph, Row, Sparkline, Table, Wrap},
};

use super::{
    Wanted,
    columns::{cut, fitting, table},
    draw::{FAINT, STRONG},
    shown::Shown,
    watch::Seen,
};
use crate::{
    batch::LogRow,
    model::error::printable,
    progress::{
        numbers::{count, grouped, short},
        timestamp,
    },
    ui::{
        axis, bars,
        board::{state_bytes, watermark_gap_ms},
        bytes,
    },
};

/// The part of a line that a bar's label may take.
const LABEL_SHARE: usize = 2;

/// A chart that is narrower has no room for its name and value.
const CHART_WIDTH_MIN: u16 = 26;
const CHART_HEIGHT: u16 = 4;

/// Names of files have this much room, or none.
const FILES_WIDTH_MIN: usize = 12;

/// What a chart shows of a batch, its colour, and how a value is written.
struct Chart {
    name: &'static str,
    color: Color,
    of: fn(&LogRow) -> Option<f64>,
    written: fn(f64) -> String,
}

/// The most important first: where there is no room for all, the last are left out. The phases have a line of their own.
const CHARTS: [Chart; 8] = [
    Chart { name: "rows/s", color: Color::Green, of: |row| row.progress.processed_rows_per_second, written: short },
    Chart {
        name: "ms a batch",
        color: Color::Cyan,
        of: |row| row.progress.batch_duration.map(|ms| ms as f64),
        written: short,
    },
    Chart { name: "state rows", color: Color::Blue, of: |row| Some(row.state_rows as f64), written: short },
    Chart {
        name: "watermark gap",
        color: Color::Magenta,
        of: |row| watermark_gap_ms(&row.progress).map(|gap| gap as f64),
        written: axis::gap,
    },
    Chart { name: "input rows/s", color: Color::Green, of: |row| row.progress.input_rows_per_second, written: short },
    Chart {
        name: "late rows",
        color: Color::Yellow,
        of: |row| Some(row.progress.num_late_rows as f64),
        written: short,
    },
    Chart {
        name: "state size",
        color: Color::Blue,
        of: |row| Some(state_bytes(&row.progress) as f64),
        written: |size| bytes(size as u64),
    },
    Chart { name: "bad rows", color: Color::Yellow, of: |row| Some(row.bad_rows as f64), written: short },
];

/// How many charts beside each other, and how many rows of them.
fn charts_in(area: Rect) -> (u16, u16) {
    let beside = (area.width / CHART_WIDTH_MIN).clamp(1, 4);
    let rows_max = match area.height {
        ..24 => 0,
        24..36 => 2,
        36..48 => 3,
        _ => 4,
    };
    (beside, (CHARTS.len() as u16).div_ceil(beside).min(rows_max))
}

/// The height of all charts on a screen.
pub(super) fn charts_height(screen: Rect) -> u16 {
    charts_in(screen).1 * CHART_HEIGHT
}

/// `screen`: what decides how many there are.
pub(super) fn draw_charts(frame: &mut Frame<'_>, area: Rect, screen: Rect, seen: &Seen) {
    let (beside, rows) = charts_in(screen);
    let places = Layout::vertical(vec![Constraint::Length(CHART_HEIGHT); usize::from(rows)]).split(area);
    let columns = Layout::horizontal(vec![Constraint::Fill(1); usize::from(beside)]);
    let areas = places.iter().flat_map(|row| columns.split(*row).to_vec());
    for (chart, area) in CHARTS.iter().zip(areas) {
        let width = usize::from(area.width.saturating_sub(2));
        let shown = seen.batches.iter().skip(seen.batches.len().saturating_sub(width));
        let values: Vec<Option<f64>> = shown.map(chart.of).collect();
        let newest = values.iter().rev().find_map(|value| *value);
        let title = format!("{} {}", chart.name, newest.map(chart.written).unwrap_or_default());
        let heights: Vec<Option<u64>> = values.iter().map(|value| value.map(|value| value.max(0.0) as u64)).collect();
        frame.render_widget(
            Sparkline::default().block(Block::bordered().title(title)).style(chart.color).data(heights),
            area,
        );
    }
}

/// What leads where, as of the newest batch: sources, what queries keep, sinks and what they promise.
pub(super) fn draw_plan(frame: &mut Frame<'_>, area: Rect, seen: &Seen) {
    let progress = seen.batches.last().map(|newest| &newest.progress);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for source in progress.into_iter().flat_map(|progress| &progress.sources) {
        let waits = count(source.files_left, seen.unit);
        lines.push(Line::from(format!("from {}: {waits} left", printable(&source.description))));
    }
    for sink in &seen.sinks {
        lines.push(Line::styled(printable(&sink.query), STRONG));
        let operators = progress.into_iter().flat_map(|progress| &progress.state_operators);
        for operator in operators.filter(|operator| operator.query == sink.query) {
            let (rows, size) = (count(operator.num_rows_total, "row"), bytes(operator.memory_used_bytes));
            lines.push(Line::from(format!("  {}: {rows}, {size}", operator.operator_name)));
        }
        lines.push(Line::from(format!("  into {}: {}", printable(&sink.sink), sink.guarantee)));
    }
    let plan = Paragraph::new(lines).wrap(Wrap { trim: false });
    frame.render_widget(plan.block(Block::bordered().title("plan")), area);
}

/// Columns of the table of batches, and what is most important in it.
const BATCHES: [&str; 7] = ["batch", "committed", "rows", "bad", "late", "ms", "files"];
const BATCHES_BY_IMPORTANCE: [usize; 7] = [0, 2, 5, 1, 4, 3, 6];

pub(super) fn draw_batches(frame: &mut Frame<'_>, area: Rect, seen: &Seen, wanted: &Wanted) {
    let fits = usize::from(area.height.saturating_sub(3));
    let chosen = wanted.at.or_else(|| seen.newest());
    // the chosen one is in sight
    let above = seen.batches.iter().rev().position(|row| Some(row.address.batch) == chosen).unwrap_or(0);
    let shown: Vec<&LogRow> = seen.batches.iter().rev().skip((above + 1).saturating_sub(fits)).take(fits).collect();
    let cells: Vec<[String; 7]> = shown.iter().map(|row| batch_cells(row, wanted)).collect();
    let widths: Vec<usize> = (0..BATCHES.len())
        .map(|column| match column {
            6 => FILES_WIDTH_MIN,
            _ => {
                let texts = cells.iter().map(|row| row[column].as_str()).chain([BATCHES[column]]);
                texts.map(|text| text.chars().count()).max().unwrap_or(0)
            }
        })
        .collect();
    // borders; and a space between two columns
    let room = usize::from(area.width.saturating_sub(2)) + 1;
    let places = fitting(&widths, &BATCHES_BY_IMPORTANCE, 1, room);
    let rows = shown.iter().zip(&cells).map(|(row, cells)| {
        let is_chosen = Some(row.address.batch) == chosen;
        let style = if is_chosen { STRONG.fg(Color::Cyan) } else { Style::new() };
        Row::new(places.iter().map(|place| cells[*place].clone())).style(style)
    });
    let header = Row::new(places.iter().map(|place| BATCHES[*place])).style(FAINT);
    let constraint = |place: &usize| match place {
        6 => Constraint::Fill(1),
        place => Constraint::Length(widths[*place] as u16),
    };
    let table = Table::new(rows, places.iter().map(constraint).collect::<Vec<_>>());
    frame.render_widget(table.header(header).block(Block::bordered().title("batches")), area);
}

fn batch_cells(row: &LogRow, wanted: &Wanted) -> [String; 7] {
    let time = timestamp(row.committed_at_us);
    let mark = if wanted.mark == Some(row.address.batch) { "*" } else { "" };
    [
        format!("{}{mark}", row.address),
        // the time of day
        time.get(11..19).unwrap_or(&time).to_owned(),
        grouped(row.rows),
        grouped(row.bad_rows),
        grouped(row.progress.num_late_rows),
        row.progress.batch_duration.map_or_else(|| "-".to_owned(), grouped),
        printable(&row.files.join(", ")),
    ]
}

pub(super) fn draw_result(frame: &mut Frame<'_>, area: Rect, seen: &Seen, wanted: &Wanted) {
    let Some(result) = &seen.result else {
        frame.render_widget(Block::bordered().title("result"), area);
        return;
    };
    let query = printable(&result.query);
    let rows = result.rows as u64;
    let (title, mut below) = match result.since {
        None => (format!("{query} as of batch {}: {}", result.at, count(rows, "row")), Vec::new()),
        Some(since) => (
            format!("{query}: {} since batch {since}", count(rows, "change")),
            vec![format!("as of batch {}", result.at)],
        ),
    };
    let room = usize::from(area.width.saturating_sub(2));
    let lines: Vec<Line<'static>> = if wanted.as_table || result.bars.is_empty() {
        // the head of the table stays in sight
        let (head, rows, missing) = table(&result.columns, &result.importance, room);
        if missing > 0 {
            below.push(format!("{} more", count(missing as u64, "column")));
        }
        head.into_iter().chain(rows.into_iter().skip(wanted.scroll)).map(Line::from).collect()
    } else {
        below.push(printable(&result.by));
        bar_lines(result, wanted.scroll, room)
    };
    let block = Block::bordered().title(title).title_bottom(below.join(", "));
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// A label, its bar, its number.
fn bar_lines(result: &Shown, scroll: usize, width: usize) -> Vec<Line<'static>> {
    let largest = result.bars.iter().map(|(_, number)| number.abs()).fold(0.0, f64::max);
    let numbers: Vec<String> = result.bars.iter().map(|(_, number)| bars::number(*number)).collect();
    let number_width = numbers.iter().map(String::len).max().unwrap_or(0);
    let longest = result.bars.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let label_width = longest.min(width / LABEL_SHARE);
    let room = width.saturating_sub(label_width + number_width + 2);
    let lines = result.bars.iter().zip(numbers).skip(scroll).map(|((label, value), number)| {
        let label = cut(label, label_width);
        let filled = if largest > 0.0 { (value.abs() / largest * room as f64).round() as usize } else { 0 };
        Line::from(vec![
            Span::raw(format!("{label:label_width$} ")),
            Span::styled(format!("{:room$}", "\u{2588}".repeat(filled)), Style::new().fg(Color::Cyan)),
            Span::raw(format!(" {number:>number_width$}")),
        ])
    });
    lines.collect()
}
