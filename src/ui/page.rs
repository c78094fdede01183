//! The page, in parts that are replaced one by one while it is open. All of it is HTML that needs no script.

use super::{
    board::{Lag, PHASES, Snapshot, State, files_taken, phases_ms, state_bytes, state_rows, watermark_gap_ms},
    charts::{BATCHES_SHOWN, Chart, Form, NARROW, Series, WIDE, write_to},
    html::{Text, bytes, cut, duration, value},
    plan_picture::{self, promise},
};
use crate::{
    batch::QueryFacts,
    progress::{
        Progress,
        numbers::{count, grouped, short},
        timestamp,
    },
};

/// Batches that the table shows.
const BATCHES_LISTED: usize = 20;

/// Files of a batch that the table names.
const FILES_NAMED: usize = 2;

/// What is meant by the gap of a watermark.
const GAP: &str = "newest event time of the batch less its watermark";

/// Seconds between two loads of the page where there is no script.
const RELOAD_S: u32 = 5;

/// The whole page. `results`, `travel`: parts that were made elsewhere.
pub fn whole(known: &Snapshot, now_us: i64, results: &str, travel: &str) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0} · Highwater</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/page.css\"><script src=\"/page.js\" defer></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"{RELOAD_S}\"></noscript></head><body>",
        Text(&known.job)
    );
    let parts = [
        ("head", header(known, now_us)),
        ("charts", charts(known)),
        ("results", results.to_owned()),
        ("plan", plan(known)),
        ("batches", batches(known)),
    ];
    for (id, html) in parts {
        match id {
            "head" => write_to(&mut out, format_args!("<header id=\"head\" data-part>{html}</header><main>")),
            _ => write_to(&mut out, format_args!("<section id=\"{id}\" data-part>{html}</section>")),
        }
        if id == "results" {
            write_to(&mut out, format_args!("<section id=\"travel\">{travel}</section>"));
        }
    }
    out + "</main><footer>The same figures for programs: <a href=\"/api/v1/job\">job</a> <a href=\"/api/v1/progress\">progress</a> \
           <a href=\"/api/v1/batches?limit=100\">batches</a> <a href=\"/metrics\">metrics</a></footer></body></html>\n"
}

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
            format_args!("<li title=\"{}\"><b>{}</b> {}</li>", Text(sink), Text(&cut(name, 40)), promise(*guarantee)),
        );
    }
    out + "</ul>"
}

fn tiles(known: &Snapshot, now_us: i64) -> Vec<(&'static str, String)> {
    let none = || "<span class=\"none\">–</span>".to_owned();
    let age = |us: i64| duration(us.max(0) as u64 / 1_000_000 * 1000);
    let newest = known.newest().map(|entry| entry.progress.as_ref());
    let Lag { files, bytes: lag_bytes } = known.lag();
    let mut lag = value("lag-files", files, count(files, "file"));
    if let Some(size) = lag_bytes {
        write_to(&mut lag, format_args!(" <small>{}</small>", value("lag-bytes", size, bytes(size))));
    }
    let watermark = newest.and_then(|progress| progress.event_time.watermark.as_deref());
    let totals = &known.totals;
    let seconds = |us: i64| us.max(0) / 1_000_000;
    let at_work = match known.at_work.filter(|_| known.state(now_us) != State::Idle) {
        Some(batch) => format!("batch {}", grouped(batch.0)),
        None => "–".to_owned(),
    };
    vec![
        (
            "High-water mark",
            known
                .high_water_mark()
                .map_or_else(none, |batch| value("high-water-mark", batch, format_args!("batch {}", grouped(batch)))),
        ),
        ("At work", format!("<span class=\"soft\">{at_work}</span>")),
        ("Lag", lag),
        (
            "Last commit",
            known
                .commit_age_us(now_us)
                .map_or_else(none, |us| value("commit-age", seconds(us), format_args!("{} ago", age(us)))),
        ),
        (
            "Watermark",
            watermark.map_or_else(none, |at| {
                let (day, time) = at.split_once('T').unwrap_or((at, ""));
                format!(
                    "<time data-id=\"watermark\" data-value=\"{0}\"><span>{1}T</span><wbr><span>{2}</span></time>",
                    Text(at),
                    Text(day),
                    Text(time)
                )
            }),
        ),
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

/// The charts over the newest batches.
pub fn charts(known: &Snapshot) -> String {
    let skipped = known.entries.len().saturating_sub(BATCHES_SHOWN);
    let shown: Vec<&Progress> = known.entries.iter().skip(skipped).map(|entry| entry.progress.as_ref()).collect();
    // a batch without data reads nothing, however fast
    let with_data: Vec<&Progress> = shown.iter().copied().filter(|progress| files_taken(progress) > 0).collect();
    let batches: Vec<u64> = shown.iter().map(|progress| progress.batch_id).collect();
    let values = |of: &dyn Fn(&Progress) -> Option<f64>| shown.iter().map(|progress| of(progress)).collect();
    let line = |id, title, colour, shown, of: &dyn Fn(&Progress) -> Option<f64>| {
        let series = vec![Series { name: title, colour, values: values(of) }];
        Chart { id, title, note: "", batches: &batches, series, form: Form::Line, width: NARROW, shown }.draw()
    };
    let stack = |id, title, width, shown, series| {
        Chart { id, title, note: "", batches: &batches, series, form: Form::Stack, width, shown }.draw()
    };
    let per_second: fn(f64) -> String = |value| format!("{}/s", short(value));
    let size: fn(f64) -> String = |value| bytes(value as u64);
    let ms: fn(f64) -> String = |value| if value < 10_000.0 { format!("{value} ms") } else { duration(value as u64) };
    let phases = (0..PHASES.len())
        .map(|phase| Series {
            name: PHASES[phase],
            colour: phase,
            values: values(&move |progress| progress.batch_duration.map(|_| phases_ms(progress)[phase] as f64)),
        })
        .collect();
    let bad = Series { name: "bad", colour: 3, values: values(&|progress| Some(progress.num_bad_rows as f64)) };
    let late = Series { name: "late", colour: 1, values: values(&|progress| Some(progress.num_late_rows as f64)) };
    [
        "<h2>Batches</h2><div class=\"grid\">".to_owned(),
        line_of(("input-rate", "Input rows", "", 0), per_second, &with_data, |progress| progress.input_rows_per_second),
        line_of(("processed-rate", "Processed rows", "", 2), per_second, &with_data, |progress| {
            progress.processed_rows_per_second
        }),
        stack("phases", "Batch duration", WIDE, ms, phases),
        line("state-rows", "State rows", 4, short, &|progress| Some(state_rows(progress) as f64)),
        line("state-bytes", "State size", 5, size, &|progress| Some(state_bytes(progress) as f64)),
        stack("bad-late", "Bad and late rows", NARROW, short, vec![bad, late]),
        line_of(("watermark-gap", "Watermark gap", GAP, 1), axis_time, &shown, |progress| {
            watermark_gap_ms(progress).map(|gap| gap as f64)
        }),
        "</div>".to_owned(),
    ]
    .concat()
}

/// A line over the batches that have such a value: those without would tear it.
fn line_of(
    (id, title, note, colour): (&str, &str, &str, usize),
    shown: fn(f64) -> String,
    all: &[&Progress],
    of: fn(&Progress) -> Option<f64>,
) -> String {
    let (batches, values): (Vec<u64>, Vec<Option<f64>>) =
        all.iter().filter_map(|progress| Some((progress.batch_id, Some(of(progress)?)))).unzip();
    let series = vec![Series { name: title, colour, values }];
    Chart { id, title, note, batches: &batches, series, form: Form::Line, width: NARROW, shown }.draw()
}

/// A length of time that an axis has room for.
fn axis_time(ms: f64) -> String {
    match ms.max(0.0) {
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms if ms < 10_000_000.0 => format!("{} s", (ms / 100.0).round() / 10.0),
        ms => format!("{:.1} h", ms / 3_600_000.0),
    }
}

/// The plan as a picture.
pub fn plan(known: &Snapshot) -> String {
    format!("<h2>Plan</h2><div class=\"wide\">{}</div>", plan_picture::draw(known))
}

/// The newest batches.
pub fn batches(known: &Snapshot) -> String {
    let mut out = String::from(
        "<h2>Recent batches</h2><div class=\"wide\"><table><thead><tr><th class=\"n\">Batch</th><th>Committed</th><th>Files</th><th class=\"n\">Rows</th>\
         <th class=\"n\">Bad</th><th class=\"n\">Late</th>",
    );
    for phase in PHASES {
        write_to(&mut out, format_args!("<th class=\"n phase\" title=\"milliseconds\">{phase}</th>"));
    }
    out += "<th class=\"n\" title=\"milliseconds\">ms</th><th class=\"n\">State rows</th><th>State</th></tr></thead><tbody>";
    let query = known.facts.queries.first().map_or("", |query| query.name.as_str());
    for entry in known.entries.iter().rev().take(BATCHES_LISTED) {
        let progress = &entry.progress;
        let batch = progress.batch_id;
        let cell = |name: &str, number: u64| {
            format!("<td class=\"n\">{}</td>", value(&format!("{name}-{batch}"), number, grouped(number)))
        };
        write_to(
            &mut out,
            format_args!(
                "<tr><td class=\"n\"><a href=\"/api/v1/batches/{batch}\">{}</a></td><td><time>{}</time></td><td>{}</td>",
                grouped(batch),
                timestamp(entry.committed_at_us),
                files(progress),
            ),
        );
        out += &cell("batch-rows", progress.num_input_rows);
        out += &cell("batch-bad", progress.num_bad_rows);
        out += &cell("batch-late", progress.num_late_rows);
        for ms in phases_ms(progress) {
            match progress.batch_duration {
                Some(_) => write_to(&mut out, format_args!("<td class=\"n phase\">{}</td>", grouped(ms))),
                None => out += "<td class=\"n phase none\">–</td>",
            }
        }
        match progress.batch_duration {
            Some(ms) => out += &cell("batch-ms", ms),
            None => out += "<td class=\"n none\">–</td>",
        }
        out += &cell("batch-state", state_rows(progress));
        write_to(
            &mut out,
            format_args!(
                "<td><a class=\"see\" href=\"/?query={}&amp;batch={batch}#travel\">show</a></td></tr>",
                Text(&in_address(query))
            ),
        );
    }
    out + "</tbody></table></div>"
}

fn files(progress: &Progress) -> String {
    let names: Vec<&str> = progress.sources.iter().flat_map(|source| &source.files).map(String::as_str).collect();
    let shown: Vec<String> = names.iter().take(FILES_NAMED).map(|name| Text(&cut(name, 40)).to_string()).collect();
    let more = files_taken(progress).saturating_sub(FILES_NAMED as u64);
    match (shown.is_empty(), more) {
        (true, _) => "<span class=\"none\">no data</span>".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => {
            let all = names.iter().take(100).copied().collect::<Vec<_>>().join(", ");
            format!("<span title=\"{}\">{} and {} more</span>", Text(&all), shown.join(", "), grouped(more))
        }
    }
}

/// A text as a value in an address.
pub fn in_address(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => write_to(&mut out, format_args!("%{byte:02X}")),
        }
    }
    out
}
