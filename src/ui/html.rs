//! Text that is safe in HTML and SVG. Nothing that a job's data brings reaches the page but through here.

use std::fmt;

use crate::model::error::printable_name;

/// Text, escaped for the content of an element and for an attribute in double quotes; control characters are written as
/// what they are.
pub struct Text<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let special = |c: char| matches!(c, '&' | '<' | '>' | '"' | '\'') || c.is_control();
        if !self.0.contains(special) {
            return f.write_str(self.0);
        }
        for c in printable_name(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => fmt::Write::write_char(f, c)?,
            }
        }
        Ok(())
    }
}

/// The first characters of a text, and a sign that there were more.
pub fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some(_) => text.chars().take(characters_max.saturating_sub(1)).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// A number as the page shows it, with its plain value beside it for programs (and tests).
pub fn value(id: &str, plain: impl fmt::Display, shown: impl fmt::Display) -> String {
    format!("<span class=\"v\" data-id=\"{}\" data-value=\"{plain}\">{shown}</span>", Text(id))
}

/// `1536` as `1.5 KiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// Milliseconds as people read them: `850 ms`, `12.5 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms} ms"),
        1..60 if ms.is_multiple_of(1000) => format!("{s} s"),
        1..60 => format!("{:.1} s", ms as f64 / 1000.0),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_data_brings_is_never_markup() {
        let evil = "<script>alert(\"x\")</script> & 'y'\n\u{1b}[2J\0";
        let safe = Text(evil).to_string();
        assert!(!safe.contains(['<', '>', '"', '\'', '\n', '\u{1b}', '\0']), "{safe}");
        assert!(safe.starts_with("&lt;script&gt;alert(&quot;x&quot;)"), "{safe}");
        assert_eq!(Text("#rust ünïcode").to_string(), "#rust ünïcode");
        assert!(!value("a\"b", 1, 1).contains("a\"b"));
    }

    #[test]
    fn sizes_and_times_are_short() {
        let sizes = [0, 1023, 1024, 1536, 1 << 20, (1 << 20) - 1, 5 << 40].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "5.0 TiB"]);
        let times = [0, 999, 1000, 12_500, 200_000, 7_500_000, 273_600_000].map(duration);
        assert_eq!(times, ["0 ms", "999 ms", "1 s", "12.5 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"]);
    }

    #[test]
    fn long_names_are_cut_at_characters() {
        assert_eq!((cut("äöü", 3), cut("äöüß", 3)), ("äöü".to_owned(), "äö…".to_owned()));
    }
}
