//! Columns that fit: where there is no room for all, the least important are left out whole.

use datafusion::arrow::{
    datatypes::{FieldRef, SchemaRef},
    record_batch::RecordBatch,
};

use crate::{
    model::{Result, error::printable_name},
    sink::rows,
};

/// Characters of a column of a result; longer values are cut, so that one does not take the place of all others.
const WIDTH_MAX: usize = 40;

/// A column of a result, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub name: String,
    pub is_number: bool,
    pub cells: Vec<String>,
}

/// Rows as columns of text.
///
/// # Errors
/// Of kind `Failed`; none is expected.
pub(super) fn columns(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<Column>> {
    let column = |field: &FieldRef| Column {
        name: printable_name(field.name()),
        is_number: field.data_type().is_numeric(),
        cells: Vec::new(),
    };
    let mut columns: Vec<Column> = schema.fields().iter().map(column).collect();
    for batch in batches {
        for (column, cells) in columns.iter_mut().zip(rows::text_cells(batch)?) {
            column.cells.extend(cells);
        }
    }
    Ok(columns)
}

impl Column {
    fn width(&self) -> usize {
        let widths = self.cells.iter().chain([&self.name]).map(|text| text.chars().count());
        widths.max().unwrap_or(0).min(WIDTH_MAX)
    }

    fn cell(&self, text: &str, width: usize) -> String {
        let text = cut(text, width);
        if self.is_number { format!("{text:>width$}") } else { format!("{text:width$}") }
    }
}

/// The places of those that fit into `room`, in order. `widths` are in the order of the columns, each costs `gap` more;
/// `importance` has the places of all columns, the most important first. One there is always.
pub(super) fn fitting(widths: &[usize], importance: &[usize], gap: usize, room: usize) -> Vec<usize> {
    let taken = importance.iter().scan(0, |taken, place| {
        *taken += widths[*place] + gap;
        Some((*place, *taken))
    });
    let mut fitting: Vec<usize> = taken.take_while(|(_, taken)| *taken <= room).map(|(place, _)| place).collect();
    if fitting.is_empty() {
        fitting.extend(importance.first());
    }
    fitting.sort_unstable();
    fitting
}

/// A table as `show` prints it: its head of three lines, its rows, and how many columns there was no room for.
pub(super) fn table(columns: &[Column], importance: &[usize], room: usize) -> (Vec<String>, Vec<String>, usize) {
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    // a line begins and ends with a bar; each column has a space on both sides and a bar behind
    let places = fitting(&widths, importance, 3, room.saturating_sub(1));
    let shown: Vec<(&Column, usize)> = places.iter().map(|place| (&columns[*place], widths[*place])).collect();
    // the last one that is left may have less than it wants
    let width =
        |(_, width): &(&Column, usize)| if shown.len() == 1 { (*width).min(room.saturating_sub(4)) } else { *width };
    let ruler: String = shown.iter().map(|column| format!("{}+", "-".repeat(width(column) + 2))).collect();
    let line = |text: &dyn Fn(&Column) -> String| {
        let cells = shown.iter().map(|shown| format!(" {} |", shown.0.cell(&text(shown.0), width(shown))));
        format!("|{}", cells.collect::<String>())
    };
    let rows = shown.first().map_or(0, |(column, _)| column.cells.len());
    let body = (0..rows).map(|row| line(&|column| column.cells[row].clone())).collect();
    let head = vec![format!("+{ruler}"), line(&|column| column.name.clone()), format!("+{ruler}")];
    (head, body, columns.len() - shown.len())
}

/// The first characters of a text, and a sign that there were more.
pub(super) fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some(_) => text.chars().take(characters_max.saturating_sub(1)).chain(['…']).take(characters_max).collect(),
        None => text.to_owned(),
    }
}

/// Parts of a line, as many lines of them as it takes; none is torn while the width allows for it.
pub(super) fn flowing(parts: &[String], between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.chars().count() + between.len() + part.chars().count() <= width => {
                line.push_str(between);
                line.push_str(part);
            }
            _ => lines.push(part.clone()),
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, cells: &[&str], is_number: bool) -> Column {
        Column { name: name.to_owned(), is_number, cells: cells.iter().map(|cell| (*cell).to_owned()).collect() }
    }

    #[test]
    fn the_least_important_columns_are_left_out_whole() {
        let widths = [5, 8, 3];
        let at = |room| fitting(&widths, &[0, 2, 1], 1, room);
        assert_eq!((at(19), at(18), at(10)), (vec![0, 1, 2], vec![0, 2], vec![0, 2]));
        assert_eq!((at(9), at(6), at(0)), (vec![0], vec![0], vec![0]), "one there is always");
    }

    #[test]
    fn a_table_has_the_columns_that_there_is_room_for() {
        let columns = [
            column("device", &["Comp1", "Comp2"], false),
            column("opens", &["2024-01-01T00:00:00", "2024-01-01T00:00:20"], false),
            column("count", &["2", "40"], true),
        ];
        let (head, rows, missing) = table(&columns, &[0, 2, 1], 80);
        assert_eq!(head[1], "| device | opens               | count |");
        assert_eq!((rows[1].as_str(), missing), ("| Comp2  | 2024-01-01T00:00:20 |    40 |", 0));
        assert!(head.iter().chain(&rows).all(|line| line.chars().count() == 40));
        let (head, rows, missing) = table(&columns, &[0, 2, 1], 39);
        assert_eq!((head[1].as_str(), rows[0].as_str(), missing), ("| device | count |", "| Comp1  |     2 |", 1));
        let (head, rows, missing) = table(&columns, &[0, 2, 1], 8);
        assert_eq!((head[1].as_str(), rows[0].as_str(), missing), ("| dev… |", "| Com… |", 2));
        assert_eq!(table(&columns, &[0, 2, 1], 0).2, 2);
        assert!(table(&[], &[], 10).1.is_empty());
        let long = [column("x", &[&"y".repeat(100)], false)];
        assert_eq!(table(&long, &[0], 200).1[0].chars().count(), 44);
    }

    #[test]
    fn parts_flow_into_lines() {
        let parts = ["one".to_owned(), "two".to_owned(), "three".to_owned()];
        assert_eq!(flowing(&parts, "; ", 80), ["one; two; three"]);
        assert_eq!(flowing(&parts, "; ", 9), ["one; two", "three"]);
        assert_eq!(flowing(&parts, "; ", 4), ["one", "two", "thr…"]);
        assert_eq!(flowing(&[], "; ", 4), Vec::<String>::new());
    }
}
