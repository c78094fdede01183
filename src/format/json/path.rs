//! One value inside of a JSON text, by its path.

use std::borrow::Cow;

use super::{
    escape::unescape,
    scan::{Fault, Shape, Skipper, colon, scalar, skip_space, string},
};

/// Deeper than this no value is looked for; the limit of input, unless told otherwise.
const DEPTH_MAX: usize = 128;

/// Where a value is: `$.store.books[0]['full title']`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Element(usize),
}

impl Path {
    /// Reads a path: `$`, then `.name`, `['name']` and `[0]` in any order.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn parse(text: &str) -> Result<Path, String> {
        let wrong = |what: &str| format!("'{text}' is no path like $.name[0]['other name']: {what}");
        let mut rest = text.strip_prefix('$').ok_or_else(|| wrong("it does not begin with $"))?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(name) = rest.strip_prefix('.') {
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 {
                    return Err(wrong("a name is missing after '.'"));
                }
                if name[..end].contains('*') {
                    return Err(wrong("'*' for any name is not known; ['...'] takes it as it is"));
                }
                steps.push(Step::Field(name[..end].to_owned()));
                rest = &name[end..];
            } else if let Some(name) = rest.strip_prefix("['") {
                let end = name.find("']").ok_or_else(|| wrong("['...'] is not closed"))?;
                steps.push(Step::Field(name[..end].to_owned()));
                rest = &name[end + 2..];
            } else if let Some(number) = rest.strip_prefix('[') {
                let end = number.find(']').ok_or_else(|| wrong("[...] is not closed"))?;
                let element = number[..end].parse().map_err(|_| wrong("[...] holds no number"))?;
                steps.push(Step::Element(element));
                rest = &number[end + 1..];
            } else {
                return Err(wrong("'.' or '[' must follow"));
            }
        }
        Ok(Path(steps))
    }

    /// The text of the value: what a string says, all else as it is written (a line end between values as a space). `None`:
    /// there is no such value, it is null, or the text is not JSON.
    pub fn find(&self, json: &str) -> Option<String> {
        self.found(in_one_line(json)?.as_bytes()).ok()?
    }

    fn found(&self, text: &[u8]) -> Result<Option<String>, Fault> {
        let mut skipper = Skipper::new(DEPTH_MAX);
        let mut at = skip_space(text, 0);
        if skip_space(text, end_of(&mut skipper, text, at)?) != text.len() {
            return Err(Fault::new(at, "something follows the value"));
        }
        for step in &self.0 {
            let inside = match step {
                Step::Field(name) => field(&mut skipper, text, at, name)?,
                Step::Element(number) => element(&mut skipper, text, at, *number)?,
            };
            let Some(inside) = inside else { return Ok(None) };
            at = inside;
        }
        let end = end_of(&mut skipper, text, at)?;
        let bytes = match text[at] {
            b'{' | b'[' => Cow::Borrowed(&text[at..end]),
            _ => {
                let (token, _) = scalar(text, at)?;
                match token.shape {
                    Shape::Null => return Ok(None),
                    Shape::Escaped => Cow::Owned(unescaped(token.bytes(text))),
                    _ => Cow::Borrowed(token.bytes(text)),
                }
            }
        };
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// A line end is white space here, as it is not in a file of lines; `None`: one stands in a string, so it is no JSON.
fn in_one_line(json: &str) -> Option<Cow<'_, str>> {
    if !json.contains('\n') {
        return Some(Cow::Borrowed(json));
    }
    let (mut in_string, mut escaped) = (false, false);
    let mut line = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '\n' if in_string => return None,
            '"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = char == '\\' && !escaped;
        line.push(if char == '\n' { ' ' } else { char });
    }
    Some(Cow::Owned(line))
}

/// Where the value of a field of the object at `at` begins; the last of equal ones.
fn field(skipper: &mut Skipper, text: &[u8], at: usize, name: &str) -> Result<Option<usize>, Fault> {
    let mut found = None;
    let mut next = inside(text, at, b'{', b'}');
    while let Some(key) = next {
        let (end, escaped) = string(text, key + 1)?;
        let content = &text[key + 1..end];
        let is_it = if escaped { unescaped(content) == name.as_bytes() } else { content == name.as_bytes() };
        let value = colon(text, end + 1)?;
        found = if is_it { Some(value) } else { found };
        next = behind(text, end_of(skipper, text, value)?);
    }
    Ok(found)
}

/// Where an element of the array at `at` begins.
fn element(skipper: &mut Skipper, text: &[u8], at: usize, number: usize) -> Result<Option<usize>, Fault> {
    let mut next = inside(text, at, b'[', b']');
    for _ in 0..number {
        let Some(value) = next else { return Ok(None) };
        next = behind(text, end_of(skipper, text, value)?);
    }
    Ok(next)
}

/// The first value or key of an object or array; `None`: it is none, or empty.
fn inside(text: &[u8], at: usize, open: u8, close: u8) -> Option<usize> {
    let first = (text.get(at) == Some(&open)).then(|| skip_space(text, at + 1))?;
    (text.get(first) != Some(&close)).then_some(first)
}

/// The next value or key behind one that ends at `end`.
fn behind(text: &[u8], end: usize) -> Option<usize> {
    let comma = skip_space(text, end);
    (text.get(comma) == Some(&b',')).then(|| skip_space(text, comma + 1))
}

fn end_of(skipper: &mut Skipper, text: &[u8], at: usize) -> Result<usize, Fault> {
    match text.get(at) {
        Some(b'{' | b'[') => skipper.skip(text, at, 0),
        _ => Ok(scalar(text, at)?.1),
    }
}

fn unescaped(content: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(content.len());
    unescape(content, &mut plain);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#" {"a": {"b": [1, 2.50, "x\n\u00e9", null, {"c": [] }]}, "full name": "n", "a\"b": true,
        "twice": 1, "big": 123456789012345678901234567890, "twice": 2, "e": {} } "#;

    fn find(path: &str) -> Option<String> {
        Path::parse(path).unwrap_or_else(|error| panic!("{error}")).find(JSON)
    }

    #[test]
    fn values_are_found_by_their_paths() {
        for (path, expected) in [
            ("$.a.b[0]", "1"),
            ("$.a.b[1]", "2.50"),
            ("$.a.b[2]", "x\n\u{e9}"),
            ("$.a.b[4]", r#"{"c": [] }"#),
            ("$['a']['b'][4].c", "[]"),
            ("$['full name']", "n"),
            ("$.a\"b", "true"),
            ("$.twice", "2"),
            ("$.big", "123456789012345678901234567890"),
        ] {
            assert_eq!(find(path).as_deref(), Some(expected), "{path}");
        }
        for path in ["$.a.b[3]", "$.a.b[5]", "$.none", "$.a[0]", "$.a.b.c", "$.e.x", "$.big[0]"] {
            assert_eq!(find(path), None, "{path}");
        }
        assert_eq!(Path::parse("$").unwrap().find(" [1, 2] ").as_deref(), Some("[1, 2]"));
        assert_eq!(Path::parse("$").unwrap().find("\"x\"").as_deref(), Some("x"));
    }

    #[test]
    fn what_is_no_json_has_no_values() {
        for text in
            ["{\"a\":\"x\ny\"}", "", "{", "{\"a\":1", "{\"a\":1}}", "{\"a\":1} x", "{'a':1}", "nul", &"[".repeat(200)]
        {
            assert_eq!(Path::parse("$.a").unwrap().find(text), None, "{text}");
        }
    }

    #[test]
    fn a_path_that_is_none_is_told() {
        for (path, why) in [
            ("a", "does not begin with $"),
            ("$a", "must follow"),
            ("$.", "a name is missing"),
            ("$['a'", "is not closed"),
            ("$[0", "is not closed"),
            ("$[x]", "no number"),
            ("$[*]", "no number"),
            ("$.*", "is not known"),
        ] {
            let error = Path::parse(path).unwrap_err();
            assert!(error.contains(why), "{path}: {error}");
        }
    }
}
