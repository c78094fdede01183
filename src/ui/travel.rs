//! Any result as of any batch, and what changed between two: sliders on the page, and a page of its own that needs no script.

use std::sync::Arc;

use super::{
    asking::{Asking, Needs, Unanswered},
    board::Snapshot,
    charts::write_to,
    html::Text,
    page::{self, in_address},
    results,
    server::Parameters,
};
use crate::{
    batch::View,
    model::{BatchAddress, BatchId, Result},
    progress::{numbers::count, timestamp},
};

/// Where the page of its own is.
pub const PLACE: &str = "/travel";

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

/// The section of the page: sliders, which need a script, and an empty place for the answer. Without a script the page loads
/// itself again and again, so time travel then has a page of its own.
pub fn section(known: &Snapshot) -> String {
    format!(
        "<h2>Time travel</h2><noscript><p class=\"empty\"><a href=\"{PLACE}\">Time travel</a> has a page of its own, which stays as it is while \
         you choose: this one loads itself again.</p></noscript>{}<div id=\"travelled\"></div>",
        form(known, &Wanted::default(), Fields::Sliders)
    )
}

/// The page of its own, whose address holds all that was chosen: fields, and the answer where one is asked for.
pub async fn page(asking: &Arc<Asking>, known: &Snapshot, wanted: &Wanted, now_us: i64) -> String {
    let mut out = format!(
        "<header><div class=\"title\"><h1>{}</h1><span class=\"brand\">Highwater</span></div></header><main><section id=\"travel\">\
         <h2>Time travel <small>as of <time>{}</time>; <a href=\"{PLACE}\">begin anew</a>, or go to <a href=\"/\">the live page</a></small></h2>",
        Text(&known.job),
        timestamp(now_us),
    );
    match (known.facts.queries.is_empty(), known.high_water_mark()) {
        (true, _) => out += "<p class=\"empty\">the job is being opened: load this page again in a moment</p>",
        (false, None) => out += "<p class=\"empty\">no batch is committed yet: load this page again in a moment</p>",
        (false, Some(newest)) => {
            out += &form(known, wanted, Fields::Numbers);
            out += &neighbours(known, wanted, newest);
        }
    }
    out += "<div id=\"travelled\">";
    out += &answer(asking, known, wanted).await;
    page::document(&known.job, None, &(out + "</div></section></main>"))
}

/// What a batch is chosen with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fields {
    /// They say what they stand at by a script, which shows them first.
    Sliders,
    Numbers,
}

/// The batches that can be chosen from. Older ones than are remembered may be there too, unless the job lets go of them: what
/// cannot be had says so.
fn reach(known: &Snapshot) -> (u64, u64) {
    let oldest = known.entries.front().map_or(0, |entry| entry.progress.batch_id);
    let first = if known.entries.len() < super::board::BATCHES_KEPT { oldest } else { 0 };
    (first, known.high_water_mark().unwrap_or(0))
}

fn form(known: &Snapshot, wanted: &Wanted, fields: Fields) -> String {
    let (first, newest) = reach(known);
    let at = wanted.batch.map_or(newest, |at| at.batch.0);
    let from = wanted.from.map_or_else(|| at.saturating_sub(1).max(first), |from| from.batch.0);
    let (id, hidden) = if fields == Fields::Sliders { ("travel-form", " hidden") } else { ("travel-fields", "") };
    let mut out = format!(
        "<form id=\"{id}\" class=\"choose\" action=\"{PLACE}\" method=\"get\"{hidden}><label>Query <select name=\"query\">"
    );
    for query in &known.facts.queries {
        let chosen = if wanted.query.as_ref() == Some(&query.name) { " selected" } else { "" };
        write_to(&mut out, format_args!("<option{chosen}>{}</option>", Text(&query.name)));
    }
    let checked = if wanted.from.is_some() { " checked" } else { "" };
    let field = |text: &str, name: &str, value: u64| match fields {
        Fields::Sliders => format!(
            "<label class=\"slide\">{text} <output>{value}</output><input type=\"range\" name=\"{name}\" min=\"{first}\" max=\"{newest}\" value=\"{value}\"></label>"
        ),
        Fields::Numbers => format!(
            "<label>{text} <input type=\"number\" name=\"{name}\" min=\"{first}\" max=\"{newest}\" value=\"{value}\" required></label>"
        ),
    };
    write_to(
        &mut out,
        format_args!(
            "</select></label>{}<label><input type=\"checkbox\" name=\"diff\" value=\"1\"{checked}> what changed since</label>{}<button>Show</button></form>",
            field("As of batch", "batch", at),
            field("batch", "from", from),
        ),
    );
    out
}

/// Links to the batches beside the one that is shown, with all else as it was chosen.
fn neighbours(known: &Snapshot, wanted: &Wanted, newest: u64) -> String {
    let (first, _) = reach(known);
    let Some(at) = wanted.batch.map(|at| at.batch.0) else { return String::new() };
    let link = |batch: u64, text: &str| {
        let query = wanted.query.as_deref().map(|query| format!("query={}&amp;", in_address(query)));
        let from = wanted.from.map(|from| format!("&amp;diff=1&amp;from={from}"));
        let (query, from) = (query.unwrap_or_default(), from.unwrap_or_default());
        format!("<a href=\"{PLACE}?{query}batch={batch}{from}\">{text} {batch}</a>")
    };
    let before = at.checked_sub(1).filter(|before| *before >= first).map(|before| link(before, "batch"));
    let after = at.checked_add(1).filter(|after| *after < newest).map(|after| link(after, "batch"));
    let last = (at < newest).then(|| link(newest, "the newest: batch"));
    let links: Vec<String> = before.into_iter().chain(after).chain(last).collect();
    format!("<nav class=\"beside\">{}</nav>", links.join(" "))
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
