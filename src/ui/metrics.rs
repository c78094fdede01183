//! `/metrics`: the same figures in Prometheus' text format. Base units; counters are of this run.

use super::{
    board::{Lag, Measured, PHASES, Snapshot, State, phases_ms, watermark_gap_ms},
    charts::write_to,
};

struct Metrics {
    out: String,
    /// The label that all have.
    job: String,
}

/// All metrics; `now_us`: microseconds since the Unix epoch.
pub fn text(known: &Snapshot, now_us: i64) -> String {
    let mut metrics = Metrics { out: String::new(), job: escaped(&known.job) };
    let seconds = |us: i64| us as f64 / 1e6;
    let totals = &known.totals;
    metrics.one("batches_total", "counter", "Batches committed in this run.", totals.batches as f64);
    metrics.one("input_rows_total", "counter", "Rows read in this run, bad ones included.", totals.rows as f64);
    metrics.one(
        "bad_rows_total",
        "counter",
        "Records of this run that could not be read, wholly or in part.",
        totals.bad_rows as f64,
    );
    metrics.one(
        "late_rows_total",
        "counter",
        "Rows of this run that came after their window was closed.",
        totals.late_rows as f64,
    );
    metrics.one(
        "busy_seconds_total",
        "counter",
        "Time that the batches of this run took.",
        totals.busy_ms as f64 / 1000.0,
    );
    metrics.one("start_time_seconds", "gauge", "When this run began, since the Unix epoch.", seconds(known.started_us));
    if let Some(Measured { lag: Lag { files, bytes }, at_us, .. }) = known.lag() {
        metrics.one("lag_files", "gauge", "Files that wait, as they were counted last.", files as f64);
        if let Some(bytes) = bytes {
            metrics.one(
                "lag_bytes",
                "gauge",
                "Bytes that wait: of files, or received and not taken by a batch.",
                bytes as f64,
            );
        }
        metrics.one("lag_timestamp_seconds", "gauge", "When they were counted, since the Unix epoch.", seconds(at_us));
    }
    let state = known.state(now_us);
    metrics.many("state", "gauge", "What the job is doing: 1 for the state that it is in.");
    for each in State::ALL {
        metrics.sample("state", &[("state", each.word())], f64::from(u8::from(each == state)));
    }
    let facts = &known.facts;
    metrics.many("source_rows_total", "counter", "Rows read of each source in this run.");
    for (source, rows) in facts.sources.iter().zip(totals.source_rows.iter().chain(std::iter::repeat(&0))) {
        metrics.sample("source_rows_total", &[("source", &source.name)], *rows as f64);
    }
    metrics.many("sink_rows_total", "counter", "Rows given to the sink of each query in this run.");
    for (query, rows) in facts.queries.iter().zip(totals.sink_rows.iter().chain(std::iter::repeat(&0))) {
        metrics.sample("sink_rows_total", &[("query", &query.name), ("sink", &query.sink)], *rows as f64);
    }
    if let Some(age_us) = known.commit_age_us(now_us) {
        metrics.one("commit_age_seconds", "gauge", "Time since the newest batch was committed.", seconds(age_us));
    }
    newest(&mut metrics, known);
    metrics.out
}

/// What is of the newest batch alone.
fn newest(metrics: &mut Metrics, known: &Snapshot) {
    let Some(entry) = known.newest() else { return };
    let progress = &entry.progress;
    metrics.one("newest_batch", "gauge", "The high-water mark: the newest committed batch.", progress.batch_id as f64);
    metrics.one("batch_rows", "gauge", "Rows that the newest batch read.", progress.num_input_rows as f64);
    if let Some(ms) = progress.batch_duration {
        metrics.one("batch_duration_seconds", "gauge", "How long the newest batch took.", ms as f64 / 1000.0);
        metrics.many("batch_phase_seconds", "gauge", "How long each phase of the newest batch took.");
        for (phase, ms) in PHASES.iter().zip(phases_ms(progress)) {
            metrics.sample("batch_phase_seconds", &[("phase", phase)], ms as f64 / 1000.0);
        }
    }
    if let Some(gap_ms) = watermark_gap_ms(progress) {
        let help = "How far the watermark is behind the newest event of the newest batch.";
        metrics.one("watermark_gap_seconds", "gauge", help, gap_ms as f64 / 1000.0);
    }
    let watermark =
        progress.event_time.watermark.as_deref().and_then(|text| chrono::DateTime::parse_from_rfc3339(text).ok());
    if let Some(watermark) = watermark {
        let help = "The watermark of the newest batch, since the Unix epoch.";
        metrics.one("watermark_timestamp_seconds", "gauge", help, watermark.timestamp_millis() as f64 / 1000.0);
    }
    for (name, help) in [
        ("operator_rows", "Distinct keys, or waiting rows, that a stateful operator keeps."),
        ("operator_memory_bytes", "Memory that a stateful operator's state takes."),
    ] {
        metrics.many(name, "gauge", help);
        for (place, operator) in progress.state_operators.iter().enumerate() {
            let place = place.to_string();
            let labels =
                [("query", operator.query.as_str()), ("operator", operator.operator_name.as_str()), ("place", &place)];
            let value = if name == "operator_rows" { operator.num_rows_total } else { operator.memory_used_bytes };
            metrics.sample(name, &labels, value as f64);
        }
    }
}

impl Metrics {
    fn many(&mut self, name: &str, kind: &str, help: &str) {
        write_to(&mut self.out, format_args!("# HELP highwater_{name} {help}\n# TYPE highwater_{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        write_to(&mut self.out, format_args!("highwater_{name}{{job=\"{}\"", self.job));
        for (label, text) in labels {
            write_to(&mut self.out, format_args!(",{label}=\"{}\"", escaped(text)));
        }
        write_to(&mut self.out, format_args!("}} {value}\n"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.many(name, kind, help);
        self.sample(name, &[], value);
    }
}

/// As Prometheus has the values of labels.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::board::Board;

    #[test]
    fn a_job_without_a_batch_has_metrics_too() {
        let text = text(&Board::new("a \"job\"\n", 1_500_000).snapshot(), 2_000_000);
        assert!(text.contains("highwater_batches_total{job=\"a \\\"job\\\"\\n\"} 0\n"), "{text}");
        assert!(text.contains("highwater_start_time_seconds{job=\"a \\\"job\\\"\\n\"} 1.5\n"), "{text}");
        assert!(text.contains(",state=\"starting\"} 1\n") && text.contains(",state=\"catching up\"} 0\n"), "{text}");
    }
}
