//! Results as HTML: tables, and bars for a label and a number.

use datafusion::arrow::{datatypes::SchemaRef, record_batch::RecordBatch};

use super::{
    bars::{self, Bars},
    charts::write_to,
    html::{Text, cut},
};
use crate::{
    batch::Table,
    model::Result,
    progress::numbers::{count, grouped},
    sink::rows,
};

/// Rows that the page shows of a result; the others are had by the API.
const ROWS_SHOWN: usize = 25;

/// Bars of a chart.
const BARS_SHOWN: usize = 10;

/// Characters of a cell or a label that are shown; the others are in its title.
const CELL_MAX: usize = 60;
const LABEL_MAX: usize = 28;

/// A query's result as bars (where it has a label and a number) and as a table.
///
/// # Errors
/// Of kind `Failed`; none is expected.
pub fn table(table: &Table) -> Result<String> {
    let bars = bars::of(table, BARS_SHOWN).as_ref().and_then(drawn).unwrap_or_default();
    Ok(format!("<div class=\"result\">{bars}{}</div>", rows_table(&table.schema, &table.rows)?))
}

/// Rows as a table.
///
/// # Errors
/// Of kind `Failed`; none is expected.
pub fn rows_table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String> {
    let all: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut out = String::from("<div class=\"wide\"><table><thead><tr>");
    let numeric: Vec<bool> = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
    for (field, numeric) in schema.fields().iter().zip(&numeric) {
        let class = if *numeric { " class=\"n\"" } else { "" };
        write_to(&mut out, format_args!("<th{class}>{}</th>", Text(field.name())));
    }
    out += "</tr></thead><tbody>";
    let mut left = ROWS_SHOWN;
    for batch in batches {
        let shown = batch.slice(0, batch.num_rows().min(left));
        left -= shown.num_rows();
        let cells = rows::text_cells(&shown)?;
        for row in 0..shown.num_rows() {
            out += "<tr>";
            for (column, numeric) in cells.iter().zip(&numeric) {
                cell(&mut out, &column[row], *numeric);
            }
            out += "</tr>";
        }
    }
    out += "</tbody></table></div>";
    let shown = all.min(ROWS_SHOWN);
    let rows = count(all as u64, "row");
    let said = if shown < all { format!("the first {} of {rows}", grouped(shown as u64)) } else { rows };
    write_to(&mut out, format_args!("<p class=\"rows\" data-rows=\"{all}\">{said}</p>"));
    Ok(out)
}

fn cell(out: &mut String, text: &str, numeric: bool) {
    let class = if numeric { " class=\"n\"" } else { "" };
    let short = cut(text, CELL_MAX);
    if short == text {
        write_to(out, format_args!("<td{class}>{}</td>", Text(text)));
    } else {
        write_to(out, format_args!("<td{class} title=\"{}\">{}</td>", Text(&cut(text, 2000)), Text(&short)));
    }
}

/// `None`: none of them is longer than nothing.
fn drawn(Bars { title, bars }: &Bars) -> Option<String> {
    const ROW: usize = 22;
    let most = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let height = bars.len() * ROW + 4;
    let numbers: Vec<String> = bars.iter().map(|(_, value)| bars::number(*value)).collect();
    // the longest number stands behind the longest bar
    let longest = (262.0 - 7.0 * numbers.iter().map(String::len).max().unwrap_or(0) as f64).clamp(40.0, 200.0);
    let spoken = bars.iter().map(|(label, value)| format!("{label} {value}")).collect::<Vec<_>>().join(", ");
    let mut out = format!(
        "<figure class=\"bars\"><figcaption>{}</figcaption><svg viewBox=\"0 0 440 {height}\" role=\"img\" aria-label=\"{}\">",
        Text(title),
        Text(&spoken)
    );
    for (place, (label, value)) in bars.iter().enumerate() {
        let y = place * ROW + 4;
        let width = (value.max(0.0) / most * longest).max(1.0);
        let shown = &numbers[place];
        write_to(
            &mut out,
            format_args!(
                "<g><title>{0}: {shown}</title><text x=\"158\" y=\"{1}\" text-anchor=\"end\">{2}</text><rect class=\"bar c0\" x=\"166\" y=\"{y}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"/><text class=\"n\" x=\"{3:.1}\" y=\"{1}\" data-value=\"{value}\">{shown}</text></g>",
                Text(label),
                y + 12,
                Text(&cut(label, LABEL_MAX)),
                172.0 + width,
            ),
        );
    }
    Some(out + "</svg></figure>")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::*;

    fn of(labels: Vec<&str>, counts: Vec<i64>, times: Option<Vec<i64>>) -> Table {
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        if let Some(times) = times {
            columns.push(("began", Arc::new(TimestampMicrosecondArray::from(times))));
        }
        columns.push(("tag", Arc::new(StringArray::from(labels))));
        columns.push(("count", Arc::new(Int64Array::from(counts))));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let keys = (0..batch.num_columns() - 1).collect();
        Table { query: "tags".into(), schema: batch.schema(), rows: vec![batch], keys }
    }

    #[test]
    fn keys_are_text_and_never_markup() {
        let html = table(&of(vec!["<script>alert(1)</script>", "b"], vec![1, 2], None)).unwrap();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{html}");
        assert!(html.contains("data-rows=\"2\">2 rows"), "{html}");
    }

    #[test]
    fn bars_are_those_of_the_newest_moment_largest_first() {
        let html =
            table(&of(vec!["old", "few", "many"], vec![900, 1, 7], Some(vec![0, 30_000_000, 30_000_000]))).unwrap();
        let bars = html.split("</figure>").next().unwrap();
        assert!(bars.contains("count by tag, began 1970-01-01T00:00:30"), "{bars}");
        assert!(!bars.contains("old") && bars.find("many: 7") < bars.find("few: 1"), "{bars}");
    }

    #[test]
    fn long_results_and_long_cells_are_cut() {
        let long = "x".repeat(500);
        let html = table(&of(vec![&long; 40], (0..40).collect(), None)).unwrap();
        assert!(html.contains("the first 25 of 40 rows"), "{html}");
        assert_eq!(html.matches("<tr>").count(), 26);
        assert!(table(&of(vec![], vec![], None)).unwrap().contains("0 rows"));
    }
}
