//! Any result as of any batch, and what changed between two: a form that works without a script, and its answer.

use std::sync::Arc;

use super::{
    asking::{Asking, Needs, Unanswered},
    board::Snapshot,
    charts::write_to,
    html::Text,
    results,
    server::Parameters,
};
use crate::{
    batch::View,
    model::{BatchAddress, BatchId, Result},
    progress::numbers::count,
};

/// What is asked for; from the address of the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    query: Option<String>,
    batch: Option<BatchAddress>,
    /// Compared with this one.
    from: Option<BatchAddress>,
}

impl Wanted {
    /// What is not understood is left out: the form says what there is.
    pub fn of(parameters: &Parameters) -> Wanted {
        let batch = |name| parameters.get(name).and_then(|text| text.parse().ok());
        Wanted {
            query: parameters.get("query").map(str::to_owned).filter(|query| !query.is_empty()),
            batch: batch("batch"),
            from: batch("from").filter(|_| parameters.get("diff").is_some()),
        }
    }
}

/// The section: the form, and the answer where one is asked for.
pub async fn section(asking: &Arc<Asking>, known: &Snapshot, wanted: &Wanted) -> String {
    let mut out = form(known, wanted);
    out += "<div id=\"travelled\">";
    out += &answer(asking, known, wanted).await;
    out + "</div>"
}

fn form(known: &Snapshot, wanted: &Wanted) -> String {
    let newest = known.high_water_mark().unwrap_or(0);
    let oldest = known.entries.front().map_or(0, |entry| entry.progress.batch_id);
    // older ones are there too, unless the job lets go of them: what cannot be had says so
    let first = if known.entries.len() < super::board::BATCHES_KEPT { oldest } else { 0 };
    let at = wanted.batch.map_or(newest, |at| at.batch.0);
    let from = wanted.from.map_or_else(|| at.saturating_sub(1).max(first), |from| from.batch.0);
    let mut out = String::from(
        "<h2>Time travel</h2><form id=\"travel-form\" action=\"/#travel\" method=\"get\"><label>Query <select name=\"query\">",
    );
    for query in &known.facts.queries {
        let chosen = if wanted.query.as_ref() == Some(&query.name) { " selected" } else { "" };
        write_to(&mut out, format_args!("<option{chosen}>{}</option>", Text(&query.name)));
    }
    let checked = if wanted.from.is_some() { " checked" } else { "" };
    write_to(
        &mut out,
        format_args!(
            "</select></label><label class=\"slide\">As of batch <output>{at}</output><input type=\"range\" name=\"batch\" min=\"{first}\" max=\"{newest}\" value=\"{at}\"></label>\
             <label><input type=\"checkbox\" name=\"diff\" value=\"1\"{checked}> what changed since</label>\
             <label class=\"slide\">batch <output>{from}</output><input type=\"range\" name=\"from\" min=\"{first}\" max=\"{newest}\" value=\"{from}\"></label><button>Show</button></form>"
        ),
    );
    out
}

/// The answer alone.
pub async fn answer(asking: &Arc<Asking>, known: &Snapshot, wanted: &Wanted) -> String {
    let Some(at) = wanted.batch else { return String::new() };
    let query = wanted.query.clone().or_else(|| known.facts.queries.first().map(|query| query.name.clone()));
    let Some(query) = query else { return String::new() };
    let from = wanted.from;
    let later = from.map_or(at, |from| if from.batch > at.batch { from } else { at });
    let answered = asking.ask(Needs::Batch(later), move |view| shown(view, &query, at, from)).await;
    answered.unwrap_or_else(|why| format!("<pre class=\"error\">{}</pre>", lines(&said(&why))))
}

/// Why there is no answer, for people.
pub fn said(why: &Unanswered) -> String {
    match why {
        Unanswered::Busy => "others are asking just now: try again in a moment".to_owned(),
        Unanswered::Slow => "it takes longer than 10 seconds: `highwater show` has no limit".to_owned(),
        Unanswered::Failed(error) => error.to_string(),
    }
}

/// Text of several lines, escaped.
pub fn lines(text: &str) -> String {
    text.lines().map(|line| Text(line).to_string()).collect::<Vec<_>>().join("\n")
}

fn shown(view: &View, query: &str, at: BatchAddress, from: Option<BatchAddress>) -> Result<String> {
    let to = view.resolve(Some(at))?;
    let Some(from_asked) = from else {
        let table = view.result(query, to)?;
        let heading = format!("<h3>{} as of batch {at}</h3>", Text(query));
        return Ok(heading + &results::table(&table)?);
    };
    let diff = view.diff(query, view.resolve(Some(from_asked))?, to)?;
    let rows = diff.flat(from_asked, at)?;
    let heading = format!(
        "<h3>{}: {} between batch {from_asked} and batch {at}</h3>",
        Text(query),
        count(diff.changes.len() as u64, "change")
    );
    Ok(heading + &results::rows_table(&rows.schema(), std::slice::from_ref(&rows))?)
}

/// The newest results of all queries, and the batch that they are of.
///
/// # Errors
/// As [`View::result`].
pub fn live(view: &View) -> Result<(BatchId, String)> {
    let newest = view.resolve(None)?;
    let mut out = format!(
        "<h2>Results <small>as of batch <span data-id=\"results-batch\" data-value=\"{0}\">{0}</span></small></h2>",
        newest.batch
    );
    for query in view.queries() {
        write_to(&mut out, format_args!("<h3>{}</h3>", Text(&query)));
        match view.result(&query, newest) {
            Ok(table) => out += &results::table(&table)?,
            Err(error) => write_to(&mut out, format_args!("<p class=\"empty\">{}</p>", lines(error.what()))),
        }
    }
    Ok((newest.batch, out))
}
