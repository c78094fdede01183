//! `/api/v1`: everything on the page as JSON.

use std::{str::FromStr, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    asking::{Needs, Unanswered},
    board::{BATCHES_KEPT, Entry, Moment, PHASES, Snapshot, phases_ms, state_bytes, state_rows, watermark_gap_ms},
    question::{self, Answered, Limits},
    server::{App, Parameters},
};
use crate::{
    batch::clock::now_us,
    model::{BatchAddress, ErrorKind, Result},
    progress::timestamp,
    sink::rows,
};

/// Rows of an answer.
const ROWS_MAX: usize = 10_000;

/// Batches of an answer.
const BATCHES_MAX: usize = 10_000;
const BATCHES_USUAL: usize = 50;

/// What a question in SQL may take.
const SQL: Limits =
    Limits { rows: ROWS_MAX, longest: Duration::from_secs(9), memory_bytes: 2 << 30, answer_bytes: 16 << 20 };

/// An answer: a status and JSON.
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    fn good(body: String) -> Answer {
        Answer { status: 200, body }
    }

    /// An error, as programs read it; `message` is the operator's text.
    pub fn bad(status: u16, message: &str) -> Answer {
        Answer { status, body: json!({ "error": { "status": status, "message": message } }).to_string() }
    }
}

/// How an error of reading results is told.
fn told(why: Unanswered, of_usage: u16) -> Answer {
    let message = super::travel::said(&why);
    let status = match why {
        Unanswered::Busy => 429,
        Unanswered::Slow => 504,
        Unanswered::Failed(error) => match error.kind() {
            ErrorKind::Usage => of_usage,
            // an expression of the question fails on a value
            ErrorKind::Data => 400,
            ErrorKind::Refused if error.what().contains("took longer than") => 504,
            ErrorKind::Refused => 503,
            _ => 500,
        },
    };
    Answer::bad(status, &message)
}

/// The job: what it is, what it does, what it promises.
pub fn job(known: &Snapshot) -> Answer {
    let now = now_us();
    let newest = known.newest();
    let progress = newest.map(|entry| entry.progress.as_ref());
    let lag = known.lag();
    let sources: Vec<Value> = known.facts.sources.iter().map(|source| {
        json!({ "name": source.name, "description": source.description, "watermarkDelayMs": source.watermark_delay_us.map(|us| us / 1000) })
    }).collect();
    let queries: Vec<Value> = known
        .facts
        .queries
        .iter()
        .map(|query| {
            json!({
                "name": query.name, "sources": query.sources, "outputMode": query.mode, "sink": query.sink,
                "guarantee": query.guarantee.to_string(), "state": query.state,
            })
        })
        .collect();
    let totals = &known.totals;
    let body = json!({
        "name": &*known.job,
        "id": progress.map(|progress| &progress.id),
        "runId": progress.map(|progress| &progress.run_id),
        "state": known.state(now).word(),
        "error": known.error(),
        "startedAt": timestamp(known.started_us),
        "uptimeSeconds": (now - known.started_us).max(0) / 1_000_000,
        "highWaterMark": known.high_water_mark(),
        "batchAtWork": known.at_work.map(|batch| batch.0),
        "watermark": progress.and_then(|progress| progress.event_time.watermark.as_deref()),
        "watermarkGapMs": progress.and_then(watermark_gap_ms),
        "lag": lag.map(|measured| json!({
            "files": measured.lag.files, "bytes": measured.lag.bytes,
            "batch": if let Moment::Batch(batch) = measured.moment { Some(batch) } else { None },
            "at": timestamp(measured.at_us), "ageSeconds": (now - measured.at_us).max(0) / 1_000_000,
        })),
        "lastCommit": newest.map(|entry| json!({
            "at": timestamp(entry.committed_at_us),
            "ageSeconds": (now - entry.committed_at_us).max(0) / 1_000_000,
        })),
        "phasesMs": progress.filter(|progress| progress.batch_duration.is_some()).map(|progress| {
            PHASES.iter().zip(phases_ms(progress)).map(|(phase, ms)| ((*phase).to_owned(), ms.into())).collect::<serde_json::Map<_, _>>()
        }),
        "stateRows": progress.map(state_rows),
        "stateBytes": progress.map(state_bytes),
        "run": { "batches": totals.batches, "rows": totals.rows, "badRows": totals.bad_rows, "lateRows": totals.late_rows },
        "sources": sources,
        "queries": queries,
        "stateOperators": progress.map(|progress| &progress.state_operators),
    });
    Answer::good(body.to_string())
}

/// The newest progress object, as `--progress json` prints it.
pub fn progress(known: &Snapshot) -> Answer {
    match known.newest() {
        Some(newest) => object(newest.progress.as_ref()),
        None => Answer::bad(404, "no batch is committed yet"),
    }
}

fn object(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => Answer::good(body),
        Err(error) => Answer::bad(500, &format!("it cannot be written as JSON: {error}")),
    }
}

/// The newest batches, newest first: progress objects with the time of their commit.
pub async fn batches(app: &Arc<App>, parameters: &Parameters) -> Answer {
    if let Some(answer) = unknown(parameters, &["limit"]) {
        return answer;
    }
    let limit = match number(parameters, "limit", BATCHES_USUAL, BATCHES_MAX) {
        Ok(limit) => limit,
        Err(answer) => return answer,
    };
    let known = app.board.snapshot();
    let all_are_here = known.entries.len() < BATCHES_KEPT;
    if limit <= known.entries.len() || all_are_here {
        return listed(known.entries.iter().rev().take(limit));
    }
    let asked = app.asking.ask(Needs::Up(known.high_water_mark()), move |view| view.log_of_newest(limit));
    let rows = match asked.await {
        Ok(rows) => rows,
        Err(why) => return told(why, 404),
    };
    let entries: Vec<Entry> = rows
        .into_iter()
        .map(|row| Entry { progress: Arc::new(row.progress), committed_at_us: row.committed_at_us })
        .collect();
    // of the newest batch the log does not know yet how long it took
    listed(entries.iter().rev().map(|entry| known.batch(entry.progress.batch_id).unwrap_or(entry)))
}

fn listed<'a>(entries: impl Iterator<Item = &'a Entry>) -> Answer {
    let object = |entry: &Entry| {
        let mut object = json!(&*entry.progress);
        object["committedAt"] = timestamp(entry.committed_at_us).into();
        object
    };
    let batches: Vec<Value> = entries.map(object).collect();
    Answer::good(json!({ "batches": batches }).to_string())
}

/// One batch, as `highwater log --json` prints it.
pub async fn batch(app: &Arc<App>, address: &str) -> Answer {
    let at = match BatchAddress::from_str(address) {
        Ok(at) => at,
        Err(why) => return Answer::bad(400, &why),
    };
    // of a batch that was the newest when the log was read last, the log knows more now
    let needs = Needs::Up(app.board.high_water_mark());
    let asked = app.asking.ask(needs, move |view| view.log_row(at)?.json_line());
    asked.await.map_or_else(|why| told(why, 404), Answer::good)
}

/// A query's result as of a batch.
pub async fn result(app: &Arc<App>, query: String, parameters: &Parameters) -> Answer {
    if let Some(answer) = unknown(parameters, &["batch", "limit"]) {
        return answer;
    }
    let limit = number(parameters, "limit", ROWS_MAX, ROWS_MAX);
    let (at, limit) = match (address(parameters, "batch"), limit) {
        (Ok(at), Ok(limit)) => (at, limit),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let asked = app.asking.ask(needs(app, at), move |view| {
        let at = view.resolve(at)?;
        let table = view.result(&query, at)?;
        let head = json!({ "query": query, "batch": at.to_string() });
        table_json(&head, &table.rows, limit)
    });
    asked.await.map_or_else(|why| told(why, 404), Answer::good)
}

/// What changed between two batches: `key`, `from` and `to` of each change.
pub async fn diff(app: &Arc<App>, query: String, parameters: &Parameters) -> Answer {
    if let Some(answer) = unknown(parameters, &["from", "to"]) {
        return answer;
    }
    let (from, to) = match (address(parameters, "from"), address(parameters, "to")) {
        (Ok(Some(from)), Ok(to)) => (from, to),
        (Ok(None), _) => return Answer::bad(400, "say which batches: from=17&to=20"),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let asked = app.asking.ask(needs(app, to), move |view| {
        let (from, to) = (view.resolve(Some(from))?, view.resolve(to)?);
        let changes = view.diff(&query, from, to)?.nested()?;
        let head = json!({ "query": query, "from": from.to_string(), "to": to.to_string() });
        table_json(&head, std::slice::from_ref(&changes), ROWS_MAX)
    });
    asked.await.map_or_else(|why| told(why, 404), Answer::good)
}

/// SQL over the results as of a batch.
pub async fn query(app: &Arc<App>, parameters: &Parameters) -> Answer {
    if let Some(answer) = unknown(parameters, &["sql", "batch"]) {
        return answer;
    }
    let Some(sql) = parameters.get("sql").map(str::to_owned) else {
        return Answer::bad(400, "say what is asked: sql=SELECT ...");
    };
    let at = match address(parameters, "batch") {
        Ok(at) => at,
        Err(answer) => return answer,
    };
    let at = match app.asking.ask(needs(app, at), move |view| view.resolve(at)).await {
        Ok(at) => at,
        Err(why) => return told(why, 400),
    };
    let checkpoint = app.asking.checkpoint().to_owned();
    let asked = app.asking.beside(move || question::ask(&checkpoint, at, &sql, &SQL));
    let told_as = |answered: Answered| {
        format!("{{\"batch\":\"{at}\",\"truncated\":{},\"rows\":{}}}", answered.truncated, answered.rows)
    };
    asked.await.map_or_else(|why| told(why, 400), |answered| Answer::good(told_as(answered)))
}

/// Without a batch the newest that the job says it committed.
fn needs(app: &App, at: Option<BatchAddress>) -> Needs {
    at.map_or_else(|| Needs::Up(app.board.snapshot().high_water_mark()), Needs::Batch)
}

/// An object with these fields, the rows behind them, and whether there were more.
fn table_json(
    head: &Value,
    batches: &[datafusion::arrow::record_batch::RecordBatch],
    rows_max: usize,
) -> Result<String> {
    let all: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    let mut left = rows_max;
    let shown: Vec<_> = batches
        .iter()
        .map(|batch| {
            let part = batch.slice(0, batch.num_rows().min(left));
            left -= part.num_rows();
            part
        })
        .collect();
    let rows = String::from_utf8_lossy(&rows::json_array(&shown)?).into_owned();
    let rows = if rows.is_empty() { "[]" } else { &rows };
    let mut head = head.clone();
    if all > rows_max || head.get("truncated").is_none() {
        head["truncated"] = (all > rows_max).into();
    }
    let text = head.to_string();
    // the rows are text already, in the order of their columns
    Ok(format!("{},\"rows\":{rows}}}", text.strip_suffix('}').unwrap_or(&text)))
}

/// Why a question with a parameter that it does not have is not answered.
fn unknown(parameters: &Parameters, known: &[&str]) -> Option<Answer> {
    let name = parameters.unknown(known)?;
    Some(Answer::bad(400, &format!("there is no '{name}' here: known are {}", known.join(", "))))
}

fn address(parameters: &Parameters, name: &str) -> Result<Option<BatchAddress>, Answer> {
    parameters.get(name).map(str::parse).transpose().map_err(|why: String| Answer::bad(400, &format!("{name}: {why}")))
}

fn number(parameters: &Parameters, name: &str, usual: usize, most: usize) -> Result<usize, Answer> {
    let Some(text) = parameters.get(name) else { return Ok(usual) };
    text.parse()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| Answer::bad(400, &format!("{name}: '{text}' is no number from 1 to {most}")))
}
