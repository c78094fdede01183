//! A job's plan as a picture: sources on the left, queries with what they keep in the middle, sinks on the right.

use super::{
    board::Snapshot,
    charts::write_to,
    html::{Text, bytes, cut, duration},
};
use crate::{
    batch::{QueryFacts, SourceFacts},
    progress::{Progress, StateOperator, numbers::grouped},
};

/// Columns of the picture: where they begin, and how wide they are.
const SOURCES: (usize, usize) = (1, 250);
const QUERIES: (usize, usize) = (331, 270);
const SINKS: (usize, usize) = (681, 250);
const WIDTH: usize = 932;

const LINE: usize = 17;
const GAP: usize = 14;
/// Characters of a line that fit into a box.
const FITS: usize = 36;

/// A box with a heading and lines.
struct Node {
    heading: String,
    /// Each with its plain value for programs, where it has one.
    lines: Vec<(String, Option<(String, u64)>)>,
}

impl Node {
    fn height(&self) -> usize {
        (1 + self.lines.len()) * LINE + 12
    }
}

/// The picture, with state sizes as of the newest batch.
pub fn draw(known: &Snapshot) -> String {
    let newest = known.newest().map(|entry| entry.progress.as_ref());
    let facts = &known.facts;
    let sources: Vec<Node> = facts.sources.iter().map(|source| of_source(source, newest)).collect();
    let queries: Vec<Node> = facts.queries.iter().map(|query| of_query(query, newest)).collect();
    let sinks: Vec<Node> = facts.queries.iter().map(|query| of_sink(query, newest)).collect();
    if queries.is_empty() {
        return "<p class=\"empty\">the job is being opened</p>".to_owned();
    }
    // a query and its sink are on one level
    let rows: Vec<usize> = queries.iter().zip(&sinks).map(|(query, sink)| query.height().max(sink.height())).collect();
    let query_tops = stacked(0, rows.iter().copied());
    let middle = rows.iter().map(|row| row + GAP).sum::<usize>();
    let left = sources.iter().map(|node| node.height() + GAP).sum::<usize>();
    let source_tops = stacked(middle.saturating_sub(left) / 2, sources.iter().map(Node::height));
    let height = middle.max(left) - GAP + 2;
    let mut out = format!(
        "<svg class=\"plan\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">",
        Text(&spoken(&facts.queries))
    );
    for (index, query) in facts.queries.iter().enumerate() {
        let to = query_tops[index] + queries[index].height() / 2;
        for (source, top) in source_tops.iter().enumerate() {
            if query.sources.contains(&facts.sources[source].name) {
                edge(&mut out, SOURCES.0 + SOURCES.1, top + sources[source].height() / 2, QUERIES.0, to);
            }
        }
        edge(&mut out, QUERIES.0 + QUERIES.1, to, SINKS.0, query_tops[index] + sinks[index].height() / 2);
    }
    let columns = [
        ("source", SOURCES, &sources, &source_tops),
        ("query", QUERIES, &queries, &query_tops),
        ("sink", SINKS, &sinks, &query_tops),
    ];
    for (class, (x, width), nodes, tops) in columns {
        for (node, top) in nodes.iter().zip(tops) {
            drawn(&mut out, class, node, (x, *top + 1, width));
        }
    }
    out + "</svg>"
}

fn stacked(start: usize, heights: impl Iterator<Item = usize>) -> Vec<usize> {
    heights.scan(start, |top, height| Some(std::mem::replace(top, *top + height + GAP))).collect()
}

fn of_source(source: &SourceFacts, newest: Option<&Progress>) -> Node {
    let mut lines = vec![(source.description.clone(), None)];
    if let Some(delay_us) = source.watermark_delay_us {
        lines.push((format!("watermark {} behind", duration((delay_us / 1000).max(0) as u64)), None));
    }
    let progress =
        newest.and_then(|progress| progress.sources.iter().find(|one| one.description == source.description));
    if let Some(progress) = progress {
        if let Some(offset) = progress.end_offset {
            let name = format!("offset-{}", source.name);
            lines.push((format!("offset {}", grouped(offset.log_offset)), Some((name, offset.log_offset))));
        }
        if let Some(unread) = progress.unread_bytes {
            lines.push((
                format!("{} received, unread", bytes(unread)),
                Some((format!("unread-{}", source.name), unread)),
            ));
        }
    }
    Node { heading: source.name.clone(), lines }
}

fn of_query(query: &QueryFacts, newest: Option<&Progress>) -> Node {
    let mut lines = Vec::new();
    let operators = newest.map_or(&[][..], |progress| &progress.state_operators);
    let own = operators.iter().filter(|operator| operator.query == query.name);
    for (place, StateOperator { operator_name, num_rows_total, memory_used_bytes, .. }) in own.enumerate() {
        let name = format!("operator-{}-{place}", query.name);
        let size = format!("{} rows, {}", grouped(*num_rows_total), bytes(*memory_used_bytes));
        lines.push((operator_name.clone(), None));
        lines.push((size, Some((name, *num_rows_total))));
    }
    if lines.is_empty() {
        lines.push((if query.state == "none" { "keeps no state".to_owned() } else { query.state.clone() }, None));
    }
    Node { heading: query.name.clone(), lines }
}

fn of_sink(query: &QueryFacts, newest: Option<&Progress>) -> Node {
    let mut lines = vec![(format!("{} mode", query.mode), None), (query.guarantee.to_string(), None)];
    let progress = newest.and_then(|progress| progress.sinks.iter().find(|sink| sink.query == query.name));
    if let Some(rows) = progress.and_then(|sink| sink.num_output_rows) {
        lines.push((
            format!("{} rows in the newest batch", grouped(rows)),
            Some((format!("output-{}", query.name), rows)),
        ));
    }
    Node { heading: query.sink.clone(), lines }
}

fn spoken(queries: &[QueryFacts]) -> String {
    let one = |query: &QueryFacts| format!("{} to {} to {}", query.sources.join(" and "), query.name, query.sink);
    queries.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn edge(out: &mut String, x: usize, y: usize, to_x: usize, to_y: usize) {
    let bend = (to_x - x) / 2;
    write_to(
        out,
        format_args!("<path class=\"edge\" d=\"M{x} {y}C{} {y} {} {to_y} {to_x} {to_y}\"/>", x + bend, to_x - bend),
    );
}

fn drawn(out: &mut String, class: &str, node: &Node, (x, y, width): (usize, usize, usize)) {
    let height = node.height() - 1;
    write_to(
        out,
        format_args!(
            "<g class=\"node {class}\"><title>{0}</title><rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"6\"/><text class=\"heading\" x=\"{1}\" y=\"{2}\">{3}</text>",
            Text(&node.heading),
            x + 12,
            y + 19,
            Text(&cut(&node.heading, FITS - 4)),
        ),
    );
    for (place, (line, plain)) in node.lines.iter().enumerate() {
        let data = plain.as_ref().map(|(name, plain)| format!(" data-id=\"{}\" data-value=\"{plain}\"", Text(name)));
        write_to(
            out,
            format_args!(
                "<text x=\"{}\" y=\"{}\"{}>{}<title>{}</title></text>",
                x + 12,
                y + 19 + (place + 1) * LINE,
                data.unwrap_or_default(),
                Text(&cut(line, FITS)),
                Text(line),
            ),
        );
    }
    *out += "</g>";
}
