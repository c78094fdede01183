//! The engine's words, turned into those of job files.

use datafusion::arrow::datatypes::DataType;

/// What a job file calls a type.
pub(super) fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Null => "NULL",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING",
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            return format!("DECIMAL({precision}, {scale})");
        }
        DataType::Timestamp(..) => "TIMESTAMP",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => "list",
        DataType::Struct(_) => "struct",
        other => match ENGINE_TYPES.iter().find(|(engine, _)| *engine == other.to_string()) {
            Some((_, ours)) => ours,
            None => "value of another type",
        },
    };
    name.to_owned()
}

const ENGINE_TYPES: [(&str, &str); 24] = [
    ("Utf8", "STRING"),
    ("LargeUtf8", "STRING"),
    ("Utf8View", "STRING"),
    ("String", "STRING"),
    ("Boolean", "BOOLEAN"),
    ("Int8", "TINYINT"),
    ("Int16", "SMALLINT"),
    ("Int32", "INT"),
    ("Int64", "BIGINT"),
    ("UInt8", "unsigned TINYINT"),
    ("UInt16", "unsigned SMALLINT"),
    ("UInt32", "unsigned INT"),
    ("UInt64", "unsigned BIGINT"),
    ("Float16", "FLOAT"),
    ("Float32", "FLOAT"),
    ("Float64", "DOUBLE"),
    ("Decimal128", "DECIMAL"),
    ("Decimal256", "DECIMAL"),
    ("Date32", "DATE"),
    ("Date64", "DATE"),
    ("Timestamp", "TIMESTAMP"),
    ("Time64", "time"),
    ("Interval", "INTERVAL"),
    ("Duration", "INTERVAL"),
];

/// Marks of text that only the engine's authors can read.
const INSIDE: [&str; 11] = [
    "{",
    "::",
    "Internal error",
    "Schema error",
    "DataType",
    "datafusion",
    "DataFusion",
    "[return_type]",
    "Signature",
    "i64",
    "usize",
];

/// An engine's message as an operator can read it: one line, without its prefixes, types by their names in job
/// files; `None` where it speaks of the engine's inside.
pub(super) fn plain(text: &str) -> Option<String> {
    const PREFIXES: [&str; 10] = [
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "This feature is not implemented: ",
        "Cast error: ",
        "Parser error: ",
        "Compute error: ",
        "Invalid argument error: ",
        "Optimizer rule ",
        "SQL error: ",
    ];
    let mut line = text.lines().next()?.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| line.strip_prefix(prefix)) {
        line = rest;
    }
    if line.is_empty() || INSIDE.iter().any(|mark| line.contains(mark)) {
        return None;
    }
    Some(named(line).trim_end_matches('.').trim_end_matches(": Syntax(").to_owned())
}

/// The text with the engine's names of types replaced.
pub(super) fn named(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\n')) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        match ENGINE_TYPES.iter().find(|(engine, _)| *engine == word) {
            Some((_, ours)) => out.push_str(ours),
            None => out.push_str(&word),
        }
        word.clear();
        out.push(c);
    }
    out.pop();
    out.replace("TIMESTAMP(µs)", "TIMESTAMP").replace("TIMESTAMP(ns)", "TIMESTAMP")
}

/// What stands between two pieces of a text.
pub(super) fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = &text[text.find(start)? + start.len()..];
    Some(&rest[..rest.find(end)?])
}

/// A value that does not fit a type, as a conversion's message names both.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Without quotes; cut if it is long.
    pub value: String,
    /// In the words of job files.
    pub target: String,
    /// A number that is too large, rather than a text that is no such value.
    pub beyond: bool,
}

impl Misfit {
    pub fn read(text: &str) -> Option<Misfit> {
        let misfit = |value: &str, target: &str, beyond: bool| Misfit {
            value: value.to_owned(),
            target: named(target.trim_end_matches('.').trim()),
            beyond,
        };
        for start in ["Cannot cast string '", "Cannot cast value '"] {
            if let Some(rest) = text.find(start).map(|at| &text[at + start.len()..]) {
                // the value itself may hold quotes
                let end = rest.rfind("' to value of ")?;
                let target = between(&rest[end..], "' to value of ", " type")?;
                return Some(misfit(&rest[..end], target, false));
            }
        }
        if let Some(rest) = text.find("Can't cast value ").map(|at| &text[at + "Can't cast value ".len()..]) {
            let (value, target) = rest.split_once(" to type ")?;
            return Some(misfit(value, target.split_whitespace().next()?, true));
        }
        if let Some(rest) = text.find("Error parsing timestamp from '").map(|at| &text[at..]) {
            let value = &rest["Error parsing timestamp from '".len()..];
            return Some(misfit(&value[..value.rfind("': ")?], "Timestamp", false));
        }
        if let Some(value) = between(text, "Invalid input syntax for type interval: \"", "\"") {
            return Some(misfit(value, "Interval", false));
        }
        let (value, rest) = text.split_once(" is too large to store in a Decimal")?;
        let precision = between(rest, "of precision ", ".")?;
        let value = value.rsplit(' ').next()?;
        Some(Misfit { value: value.to_owned(), target: format!("DECIMAL of {precision} digits"), beyond: true })
    }

    /// `'abc' is no BIGINT`
    pub fn what(&self) -> String {
        const SHOWN_MAX: usize = 60;
        let mut value: String = self.value.chars().take(SHOWN_MAX).collect();
        if value.len() < self.value.len() {
            value.push_str("...");
        }
        if self.beyond {
            return format!("{value} is too large for {}", self.target);
        }
        format!("'{value}' is no {}", self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_job_files_and_the_inside_is_never_shown() {
        let told = plain("Error during planning: Cannot coerce Timestamp(µs) + Int64 to valid types.");
        assert_eq!(told.as_deref(), Some("Cannot coerce TIMESTAMP + BIGINT to valid types"));
        assert_eq!(plain("Internal error: Function 'sum' failed"), None);
        assert_eq!(plain("no RawFieldAccessExpr { field_access: 1 }"), None);
        assert_eq!(type_name(&DataType::Decimal128(10, 2)), "DECIMAL(10, 2)");
        assert_eq!(type_name(&DataType::Float64), "DOUBLE");
    }

    #[test]
    fn a_value_that_does_not_fit_is_found_in_the_message() {
        let what = |text: &str| Misfit::read(text).map(|misfit| misfit.what());
        let cases = [
            ("Arrow error: Cast error: Cannot cast string 'a'b' to value of Int64 type", "'a'b' is no BIGINT"),
            ("Cast error: Cannot cast value 'abc' to value of Boolean type", "'abc' is no BOOLEAN"),
            ("Cast error: Can't cast value 92233 to type Int32", "92233 is too large for INT"),
            ("Parser error: Error parsing timestamp from 'x: y': too short", "'x: y' is no TIMESTAMP"),
            ("Parser error: Invalid input syntax for type interval: \"1 foo\"", "'1 foo' is no INTERVAL"),
            (
                "Invalid argument error: 922.0 is too large to store in a Decimal128 of precision 3. Max is 99.9",
                "922.0 is too large for DECIMAL of 3 digits",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(what(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(what("Divide by zero error"), None);
        let long = format!("Cannot cast string '{}' to value of Int64 type", "é".repeat(100));
        assert_eq!(what(&long), Some(format!("'{}...' is no BIGINT", "é".repeat(60))));
    }
}
