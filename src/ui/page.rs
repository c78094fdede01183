//! The page, in parts that are replaced one by one while it is open. All of it is HTML that needs no script.

use super::{
    axis::{self, Axis},
    board::{PHASES, Snapshot, files_taken, phases_ms, state_bytes, state_rows, watermark_gap_ms},
    charts::{BATCHES_SHOWN, Chart, Form, NARROW, Series, WIDE, write_to},
    header::header,
    html::{Text, bytes, cut, value},
    plan_picture,
    travel::{self, PLACE},
};
use crate::{
    batch::QueryFacts,
    progress::{
        Progress,
        numbers::{grouped, short},
        timestamp,
    },
};

/// Batches that the table shows.
const BATCHES_LISTED: usize = 20;

/// Files of a batch that the table names.
const FILES_NAMED: usize = 2;

/// Characters of a query's name in the table; all are in its title.
const QUERY_MAX: usize = 20;

/// What is meant by the gap of a watermark.
const GAP: &str = "newest event time of the batch less its watermark";

/// Seconds between two loads of the page where there is no script.
const RELOAD_S: u32 = 5;

/// The whole page. `results`: a part that was made elsewhere.
pub fn whole(known: &Snapshot, now_us: i64, results: &str) -> String {
    let mut out = format!("<header id=\"head\" data-part>{}</header><main>", header(known, now_us));
    let parts = [
        ("charts", charts(known)),
        ("results", results.to_owned()),
        ("plan", plan(known)),
        ("batches", batches(known)),
    ];
    for (id, html) in parts {
        write_to(&mut out, format_args!("<section id=\"{id}\" data-part>{html}</section>"));
        if id == "results" {
            write_to(&mut out, format_args!("<section id=\"travel\">{}</section>", travel::section(known)));
        }
    }
    out += "</main><footer>The same figures for programs: <a href=\"/api/v1/job\">job</a> <a href=\"/api/v1/progress\">progress</a> \
            <a href=\"/api/v1/batches?limit=100\">batches</a> <a href=\"/metrics\">metrics</a></footer>";
    document(&known.job, Some(RELOAD_S), &out)
}

/// A document of its own. `reload_s`: it is kept fresh by a script, and without one loads itself again after so many seconds; `None`:
/// it stays as it is.
pub fn document(job: &str, reload_s: Option<u32>, body: &str) -> String {
    let fresh = reload_s.map(|s| {
        format!(
            "<script src=\"/page.js\" defer></script><noscript><meta http-equiv=\"refresh\" content=\"{s}\"></noscript>"
        )
    });
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{} · Highwater</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/page.css\">\
         {}</head><body>{body}</body></html>\n",
        Text(job),
        fresh.unwrap_or_default(),
    )
}

/// What values count, and how one is written.
type Scale = (Axis, fn(f64) -> String);

const PER_SECOND: Scale = (Axis::Count, |value| match value {
    // a few rows: parts of one count
    0.0..10.0 => format!("{}/s", (value * 10.0).round() / 10.0),
    _ => format!("{}/s", short(value)),
});

/// The charts over the newest batches.
pub fn charts(known: &Snapshot) -> String {
    let skipped = known.entries.len().saturating_sub(BATCHES_SHOWN);
    let shown: Vec<&Progress> = known.entries.iter().skip(skipped).map(|entry| entry.progress.as_ref()).collect();
    // a batch without data reads nothing, however fast
    let with_data: Vec<&Progress> = shown.iter().copied().filter(|progress| files_taken(progress) > 0).collect();
    let batches: Vec<u64> = shown.iter().map(|progress| progress.batch_id).collect();
    let values = |of: &dyn Fn(&Progress) -> Option<f64>| shown.iter().map(|progress| of(progress)).collect();
    let line = |id, title, colour, (axis, shown): Scale, of: &dyn Fn(&Progress) -> Option<f64>| {
        let series = vec![Series { name: title, colour, values: values(of) }];
        Chart { id, title, note: "", batches: &batches, series, form: Form::Line, width: NARROW, axis, shown }.draw()
    };
    let stack = |id, title, width, (axis, shown): Scale, series| {
        Chart { id, title, note: "", batches: &batches, series, form: Form::Stack, width, axis, shown }.draw()
    };
    let rows: Scale = (Axis::Count, short);
    let size: Scale = (Axis::Binary, |value| bytes(value as u64));
    // seconds where the milliseconds would not be read
    let ms: Scale = (Axis::Time, |value| if value < 10_000.0 { format!("{value} ms") } else { axis::time(value) });
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
        line_of(("input-rate", "Input rows", "", 0), PER_SECOND, &with_data, |progress| progress.input_rows_per_second),
        line_of(("processed-rate", "Processed rows", "", 2), PER_SECOND, &with_data, |progress| {
            progress.processed_rows_per_second
        }),
        stack("phases", "Batch duration", WIDE, ms, phases),
        line("state-rows", "State rows", 4, rows, &|progress| Some(state_rows(progress) as f64)),
        line("state-bytes", "State size", 5, size, &|progress| Some(state_bytes(progress) as f64)),
        stack("bad-late", "Bad and late rows", NARROW, rows, vec![bad, late]),
        line_of(("watermark-gap", "Watermark gap", GAP, 1), (Axis::Time, axis::gap), &shown, |progress| {
            watermark_gap_ms(progress).map(|gap| gap as f64)
        }),
        "</div>".to_owned(),
    ]
    .concat()
}

/// A line over the batches that have such a value: those without would tear it.
fn line_of(
    (id, title, note, colour): (&str, &str, &str, usize),
    (axis, shown): Scale,
    all: &[&Progress],
    of: fn(&Progress) -> Option<f64>,
) -> String {
    let (batches, values): (Vec<u64>, Vec<Option<f64>>) =
        all.iter().filter_map(|progress| Some((progress.batch_id, Some(of(progress)?)))).unzip();
    let series = vec![Series { name: title, colour, values }];
    Chart { id, title, note, batches: &batches, series, form: Form::Line, width: NARROW, axis, shown }.draw()
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
    out += "<th class=\"n\" title=\"milliseconds\">ms</th><th class=\"n\">State rows</th><th>Results</th></tr></thead><tbody>";
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
        write_to(&mut out, format_args!("<td>{}</td></tr>", links(known, batch)));
    }
    out + "</tbody></table></div>"
}

/// To the result of each query as of a batch.
fn links(known: &Snapshot, batch: u64) -> String {
    let link = |query: &QueryFacts| {
        let (address, name) = (in_address(&query.name), Text(&query.name));
        let shown = cut(&query.name, QUERY_MAX);
        format!(
            "<a class=\"see\" href=\"{PLACE}?query={address}&amp;batch={batch}\" title=\"{name}\">{}</a>",
            Text(&shown)
        )
    };
    known.facts.queries.iter().map(link).collect::<Vec<_>>().join(" ")
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
