//! The head of the page: the job, what it is doing, what matters most, and what is promised of its results.

use super::{
    board::{Lag, Measured, Moment, Snapshot, State},
    charts::write_to,
    html::{Text, bytes, cut, duration, value},
};
use crate::{
    batch::QueryFacts,
    progress::numbers::{count, grouped},
};

/// Characters of a sink's description that are shown; all are in its title.
const SINK_MAX: usize = 60;

/// Job, state, and what matters most.
pub fn header(known: &Snapshot, now_us: i64) -> String {
    let state = known.state(now_us);
    let mut out = format!(
        "<div class=\"title\"><h1>{}</h1><span class=\"state s-{}\" role=\"status\" data-id=\"state\" data-value=\"{}\">{}</span><span class=\"brand\">Highwater</span></div>",
        Text(&known.job),
        state.word().replace(' ', "-"),
        state.word(),
        state.word(),
    );
    if let Some(error) = known.error() {
        write_to(
            &mut out,
            format_args!(
                "<pre class=\"error\">{}</pre>",
                error.lines().map(|line| Text(line).to_string()).collect::<Vec<_>>().join("\n")
            ),
        );
    }
    out += "<dl class=\"tiles\">";
    for (name, shown) in tiles(known, now_us) {
        write_to(&mut out, format_args!("<div><dt>{name}</dt><dd>{shown}</dd></div>"));
    }
    out += "</dl><ul class=\"promises\">";
    for QueryFacts { name, sink, guarantee, .. } in &known.facts.queries {
        write_to(
            &mut out,
            format_args!(
                "<li><b>{}</b> into <span title=\"{}\">{}</span>: {guarantee}</li>",
                Text(&cut(name, 40)),
                Text(sink),
                Text(&cut(sink, SINK_MAX)),
            ),
        );
    }
    out + "</ul>"
}

fn none() -> String {
    "<span class=\"none\">–</span>".to_owned()
}

fn seconds(us: i64) -> i64 {
    us.max(0) / 1_000_000
}

fn age(us: i64) -> String {
    duration(us.max(0) as u64 / 1_000_000 * 1000)
}

fn ago(us: i64) -> String {
    if us < 1_000_000 { "just now".to_owned() } else { format!("{} ago", age(us)) }
}

fn tiles(known: &Snapshot, now_us: i64) -> Vec<(&'static str, String)> {
    let totals = &known.totals;
    let mark = known.high_water_mark().map(|batch| batch_of("high-water-mark", batch));
    let at_work = match known.at_work.filter(|_| known.state(now_us) != State::Idle) {
        Some(batch) => format!("batch {}", grouped(batch.0)),
        None => "–".to_owned(),
    };
    let commit = known.commit_age_us(now_us).map(|us| value("commit-age", seconds(us), ago(us)));
    vec![
        ("High-water mark", mark.unwrap_or_else(none)),
        ("At work", format!("<span class=\"soft\">{at_work}</span>")),
        ("Lag", known.lag().map_or_else(none, |measured| lag(&measured, known.facts.unit(), now_us))),
        ("Last commit", commit.unwrap_or_else(none)),
        ("Watermark", watermark(known).unwrap_or_else(none)),
        ("Rows of this run", value("rows", totals.rows, grouped(totals.rows))),
        (
            "Bad / late rows",
            format!(
                "{} / {}",
                value("bad-rows", totals.bad_rows, grouped(totals.bad_rows)),
                value("late-rows", totals.late_rows, grouped(totals.late_rows))
            ),
        ),
        ("Uptime", value("uptime", seconds(now_us - known.started_us), age(now_us - known.started_us))),
    ]
}

fn batch_of(id: &str, batch: u64) -> String {
    value(id, batch, format_args!("batch {}", grouped(batch)))
}

/// What waits, and when it was found to.
fn lag(measured: &Measured, unit: &str, now_us: i64) -> String {
    let Measured { lag: Lag { files, bytes: size }, moment, at_us } = *measured;
    let mut out = value("lag-files", files, count(files, unit));
    if let Some(size) = size {
        write_to(&mut out, format_args!(" <small>{}</small>", value("lag-bytes", size, bytes(size))));
    }
    let when = match moment {
        Moment::Opening => "at the start, ".to_owned(),
        Moment::Batch(batch) => format!("as of {}, ", batch_of("lag-batch", batch)),
        Moment::Idle => String::new(),
    };
    write_to(&mut out, format_args!("<small class=\"when\">{when}{}</small>", ago(now_us - at_us)));
    out
}

fn watermark(known: &Snapshot) -> Option<String> {
    let at = known.newest()?.progress.event_time.watermark.as_deref()?;
    let (day, time) = at.split_once('T').unwrap_or((at, ""));
    Some(format!(
        "<time data-id=\"watermark\" data-value=\"{0}\"><span>{1}T</span><wbr><span>{2}</span></time>",
        Text(at),
        Text(day),
        Text(time)
    ))
}
