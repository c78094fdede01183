//! Charts as SVG, drawn here so that the page needs no script for them. Each has its newest value as text, a title for
//! each batch under the pointer, and a text in its place for whoever cannot see it.

use std::fmt::Write as _;

use super::{
    axis::Axis,
    html::{Text, value},
};

/// Batches that a chart shows.
pub const BATCHES_SHOWN: usize = 80;

/// The width of a chart in one column of the page, and of one that has two.
pub const NARROW: f64 = 340.0;
pub const WIDE: f64 = 704.0;
const HEIGHT: f64 = 150.0;
/// Room for the axes' labels.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 20.0;

/// What a chart shows, one value of each series for each batch.
pub struct Chart<'a> {
    /// For programs, and the page's own script.
    pub id: &'a str,
    pub title: &'a str,
    /// What is meant where the title does not say it; empty: it does.
    pub note: &'a str,
    pub batches: &'a [u64],
    pub series: Vec<Series<'a>>,
    pub form: Form,
    /// [`NARROW`] or [`WIDE`].
    pub width: f64,
    /// What the values count.
    pub axis: Axis,
    /// How a value is written, with its unit.
    pub shown: fn(f64) -> String,
}

/// One row of values.
pub struct Series<'a> {
    pub name: &'a str,
    /// Which of the colours of `page.css` it has.
    pub colour: usize,
    /// `None`: the batch has no such value.
    pub values: Vec<Option<f64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Line,
    /// Bars, series upon series.
    Stack,
}

impl Chart<'_> {
    /// The chart with its heading, as a `figure`.
    pub fn draw(&self) -> String {
        let mut out = format!("<figure class=\"chart\" id=\"chart-{}\"><figcaption><b>{}</b>", self.id, self.title);
        for series in &self.series {
            let Some(newest) = series.values.last().copied().flatten() else {
                write_to(&mut out, format_args!("<span class=\"none\">–</span>"));
                continue;
            };
            let id = if self.series.len() > 1 { format!("{}-{}", self.id, series.name) } else { self.id.to_owned() };
            let shown = value(&id, newest, (self.shown)(newest));
            if self.series.len() > 1 {
                let Series { name, colour, .. } = series;
                write_to(
                    &mut out,
                    format_args!("<span class=\"key\"><i class=\"c{colour}\"></i>{name} {shown}</span>"),
                );
            } else {
                out += &shown;
            }
        }
        out += "</figcaption>";
        if self.batches.is_empty() || self.series.iter().all(|series| series.values.iter().all(Option::is_none)) {
            out += "<p class=\"empty\">nothing to show yet</p>";
        } else {
            self.picture(&mut out);
        }
        if !self.note.is_empty() {
            write_to(&mut out, format_args!("<small>{}</small>", self.note));
        }
        out + "</figure>"
    }

    fn picture(&self, out: &mut String) {
        let top = self.axis.top(self.highest());
        let (first, last) = (self.batches[0], self.batches[self.batches.len() - 1]);
        write_to(
            out,
            format_args!(
                "<svg viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"{}: batches {first} to {last}, {}\">",
                self.width,
                self.title,
                Text(&self.described(self.batches.len() - 1)),
            ),
        );
        for share in Axis::shares(top) {
            let y = y_of(*share);
            let label = (self.shown)(top * share);
            write_to(
                out,
                format_args!(
                    "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                    self.width - RIGHT,
                    LEFT - 6.0,
                    y + 3.5,
                ),
            );
        }
        let y = HEIGHT - 5.0;
        write_to(out, format_args!("<text x=\"{LEFT}\" y=\"{y}\">batch {first}</text>"));
        if last != first {
            // under its own column; two labels have room beside each other
            let x = (LEFT + self.step() * self.batches.len() as f64).max(LEFT + 90.0);
            write_to(out, format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"end\">{last}</text>"));
        }
        match self.form {
            Form::Line => self.lines(out, top),
            Form::Stack => self.stacks(out, top),
        }
        self.titles(out);
        *out += "</svg>";
    }

    /// The highest point of the chart.
    fn highest(&self) -> f64 {
        let at = |batch: usize| self.series.iter().filter_map(move |series| series.values[batch]);
        let heights = (0..self.batches.len()).map(|batch| match self.form {
            Form::Line => at(batch).fold(0.0, f64::max),
            Form::Stack => at(batch).sum(),
        });
        heights.fold(0.0, f64::max)
    }

    fn lines(&self, out: &mut String, top: f64) {
        let step = self.step();
        for series in &self.series {
            let (mut line, mut area, mut begun) = (String::new(), String::new(), None);
            for (place, value) in series.values.iter().enumerate() {
                let x = LEFT + step * (place as f64 + 0.5);
                let Some(value) = value else {
                    close(&mut area, &mut begun);
                    continue;
                };
                let y = y_of(value.max(0.0) / top);
                match begun {
                    Some((first, _)) => {
                        write_to(&mut line, format_args!("L{x:.1} {y:.1}"));
                        write_to(&mut area, format_args!("L{x:.1} {y:.1}"));
                        begun = Some((first, x));
                    }
                    None => {
                        // a batch by itself is a short dash
                        write_to(&mut line, format_args!("M{:.1} {y:.1}L{x:.1} {y:.1}", x - 1.0));
                        write_to(&mut area, format_args!("M{x:.1} {:.1}L{x:.1} {y:.1}", y_of(0.0)));
                        begun = Some((x, x));
                    }
                }
            }
            close(&mut area, &mut begun);
            let colour = series.colour;
            write_to(
                out,
                format_args!(
                    "<path class=\"area c{colour}\" d=\"{area}\"/><path class=\"line c{colour}\" d=\"{line}\"/>"
                ),
            );
        }
    }

    fn stacks(&self, out: &mut String, top: f64) {
        let step = self.step();
        let width = (step * 0.8).max(0.8);
        let mut below = vec![0.0; self.batches.len()];
        for series in &self.series {
            let mut bars = String::new();
            for (place, value) in series.values.iter().enumerate() {
                let Some(value) = value.filter(|value| *value > 0.0) else { continue };
                let x = LEFT + step * place as f64 + (step - width) / 2.0;
                let (y, bottom) = (y_of((below[place] + value) / top), y_of(below[place] / top));
                write_to(&mut bars, format_args!("M{x:.1} {y:.1}h{width:.1}V{bottom:.1}h-{width:.1}z"));
                below[place] += value;
            }
            if !bars.is_empty() {
                write_to(out, format_args!("<path class=\"bar c{}\" d=\"{bars}\"/>", series.colour));
            }
        }
    }

    /// An invisible column for each batch, which says its values under the pointer.
    fn titles(&self, out: &mut String) {
        let step = self.step();
        for (place, batch) in self.batches.iter().enumerate() {
            let x = LEFT + step * place as f64;
            let height = HEIGHT - TOP - BOTTOM;
            write_to(
                out,
                format_args!(
                    "<rect class=\"hit\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{step:.1}\" height=\"{height}\"><title>batch {batch}: {}</title></rect>",
                    Text(&self.described(place)),
                ),
            );
        }
    }

    fn described(&self, place: usize) -> String {
        let parts = self.series.iter().map(|series| {
            let shown = series.values[place].map_or_else(|| "–".to_owned(), self.shown);
            if self.series.len() > 1 { format!("{} {shown}", series.name) } else { shown }
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    fn step(&self) -> f64 {
        (self.width - LEFT - RIGHT) / (self.batches.len() as f64).max(12.0)
    }
}

/// Ends an area at the base line.
fn close(area: &mut String, begun: &mut Option<(f64, f64)>) {
    if let Some((_, last)) = begun.take() {
        write_to(area, format_args!("L{last:.1} {:.1}z", y_of(0.0)));
    }
}

/// The height of a share of the highest value.
fn y_of(share: f64) -> f64 {
    HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
}

/// Writing to a string does not fail.
pub fn write_to(out: &mut String, what: std::fmt::Arguments<'_>) {
    out.write_fmt(what).expect("a string takes what is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(form: Form, values: Vec<Vec<Option<f64>>>) -> String {
        let batches: Vec<u64> = (7..7 + values[0].len() as u64).collect();
        let names = ["one", "two"];
        let series = values
            .into_iter()
            .enumerate()
            .map(|(colour, values)| Series { name: names[colour], colour, values })
            .collect();
        Chart {
            id: "x",
            title: "Rows",
            note: "",
            batches: &batches,
            series,
            form,
            width: NARROW,
            axis: Axis::Count,
            shown: |value| format!("{value}"),
        }
        .draw()
    }

    #[test]
    fn a_line_has_a_gap_where_a_batch_has_no_value() {
        let drawn = chart(Form::Line, vec![vec![Some(1.0), None, Some(2.0), Some(3.0)]]);
        let line = drawn.split("class=\"line c0\" d=\"").nth(1).expect("a line").split('"').next().expect("its path");
        assert_eq!(line.matches('M').count(), 2, "{line}");
        assert!(drawn.contains("<title>batch 8: –</title>") && drawn.contains("<title>batch 10: 3</title>"), "{drawn}");
        assert!(drawn.contains("data-id=\"x\" data-value=\"3\">3</span>"), "{drawn}");
        assert!(drawn.contains("aria-label=\"Rows: batches 7 to 10, 3\""), "{drawn}");
    }

    #[test]
    fn bars_stand_upon_each_other() {
        let drawn = chart(Form::Stack, vec![vec![Some(2.0)], vec![Some(2.0)]]);
        let bars: Vec<&str> = drawn.split("class=\"bar c").skip(1).collect();
        assert_eq!(bars.len(), 2);
        // the axis ends at 4: the first reaches from the base line to the middle, the second from there to the top
        assert!(bars[0].contains(" 69.0h") && bars[0].contains("V130.0h"), "{}", bars[0]);
        assert!(bars[1].contains(" 8.0h") && bars[1].contains("V69.0h"), "{}", bars[1]);
        assert!(drawn.contains("one 2, two 2"), "{drawn}");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert!(chart(Form::Line, vec![vec![]]).contains("nothing to show yet"));
        assert!(chart(Form::Stack, vec![vec![None, None]]).contains("nothing to show yet"));
        let zero = chart(Form::Line, vec![vec![Some(0.0)]]);
        assert!(zero.contains("<svg") && !zero.contains("NaN") && !zero.contains("inf"), "{zero}");
    }

    #[test]
    fn an_axis_has_no_part_of_one_thing() {
        let labels = |highest: f64| -> Vec<String> {
            let drawn = chart(Form::Stack, vec![vec![Some(highest)]]);
            let ends = drawn.split("text-anchor=\"end\">").skip(1);
            ends.filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
        };
        assert_eq!(labels(0.0), ["0", "1"]);
        assert_eq!(labels(1.0), ["0", "1"]);
        assert_eq!(labels(2.0), ["0", "1", "2"]);
        assert_eq!(labels(5.0), ["0", "3", "6"]);
    }
}
