//! Reads Rust source as text, just well enough for the rules: which part is production code, which paths it names, how
//! long its functions are. It relies on the layout that `cargo fmt` gives.

/// One source file.
pub struct File {
    /// `src/job/spec.rs`
    pub path: String,
    /// Everything, tests included.
    pub text: String,
    /// Production code without comments and the contents of literals, ASCII, `super` resolved; same line numbers.
    code: String,
    production: String,
}

pub struct Function {
    pub name: String,
    /// Its first line, from 1.
    pub start: usize,
    pub lines: usize,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        let production = if is_test_file(path) { "" } else { production(text) };
        let to_root = "super::".repeat(depth(path));
        let mut code = masked(production);
        if !to_root.is_empty() {
            code = code.replace(&to_root, "crate::");
        }
        File { path: path.to_owned(), text: text.to_owned(), code, production: production.to_owned() }
    }

    /// `job` for `src/job/spec.rs`, `main` for `src/main.rs`.
    pub fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = inside.split('/').next().unwrap_or(inside);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The paths below `root::` that the code names, groups written out: line and path without the root.
    pub fn paths(&self, root: &str) -> Vec<(usize, String)> {
        let start = format!("{root}::");
        let mut found = Vec::new();
        for at in starts(&self.code, &start) {
            expand(&self.code, at + start.len(), "", &mut found);
        }
        found.into_iter().map(|(at, path)| (line_of(&self.code, at), path)).collect()
    }

    /// Where the code mentions `name`, written out or in a group of a `use`: line and the whole path (or the name).
    pub fn mentions(&self, name: &str) -> Vec<(usize, String)> {
        const ROOTS: [&str; 5] = ["std", "tokio", "chrono", "datafusion", "sled"];
        let mut found: Vec<(usize, String)> = Vec::new();
        for root in ROOTS {
            let paths = self.paths(root).into_iter().map(|(line, path)| (line, format!("{root}::{path}")));
            found.extend(paths.filter(|(_, path)| !words(path, name).is_empty()));
        }
        for line in words(&self.code, name) {
            // The head of a `use` over several lines: its members were found above, each on its own line.
            let text = self.code.lines().nth(line - 1).unwrap_or_default().trim();
            let head = text.starts_with("use ") && text.ends_with('{');
            if !head && !found.iter().any(|(other, _)| *other == line) {
                found.push((line, name.to_owned()));
            }
        }
        found.sort();
        found
    }

    pub fn production_lines(&self) -> usize {
        self.production.matches('\n').count()
    }

    pub fn functions(&self) -> Vec<Function> {
        let lines: Vec<&str> = self.production.split('\n').collect();
        let measured = |start: usize| {
            let (indent, name) = function_name(lines[start])?;
            let count = function_lines(&lines[start..], indent)?;
            Some(Function { name: name.to_owned(), start: start + 1, lines: count })
        };
        (0..lines.len()).filter_map(measured).collect()
    }
}

/// Test modules in files of their own, as `#[cfg(test)] mod tests;` makes them.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// What stands before the first test module.
fn production(text: &str) -> &str {
    const TEST: &str = "#[cfg(test)]\n";
    let is_module = |at: &usize| {
        let after = &text[at + TEST.len()..];
        ["mod ", "pub mod ", "pub(crate) mod "].iter().any(|start| after.starts_with(start))
    };
    let end = text.match_indices(TEST).map(|(at, _)| at).find(is_module);
    &text[..end.unwrap_or(text.len())]
}

/// How many modules deep the file is: 0 for `lib.rs`, 2 for `src/job/spec.rs`.
fn depth(path: &str) -> usize {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    match inside {
        "lib.rs" | "main.rs" => 0,
        _ => inside.split('/').count() - usize::from(inside.ends_with("/mod.rs")),
    }
}

/// The text with comments and the contents of literals blanked.
fn masked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = hidden_end(&chars, at);
        for c in &chars[at..end] {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
        if end == at {
            out.push(if chars[at].is_ascii() { chars[at] } else { ' ' });
            at += 1;
        } else {
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` itself where none starts.
fn hidden_end(chars: &[char], at: usize) -> usize {
    let is = |offset: usize, c: char| chars.get(at + offset) == Some(&c);
    let after = |from: usize, wanted: &str| {
        let wanted: Vec<char> = wanted.chars().collect();
        let found = chars[from.min(chars.len())..].windows(wanted.len()).position(|window| window == wanted);
        found.map_or(chars.len(), |position| from + position + wanted.len())
    };
    if is(0, '/') && is(1, '/') {
        return after(at, "\n") - usize::from(after(at, "\n") < chars.len());
    }
    if is(0, '/') && is(1, '*') {
        return after(at + 2, "*/");
    }
    if is(0, '"') {
        let mut end = at + 1;
        while end < chars.len() && chars[end] != '"' {
            end += if chars[end] == '\\' { 2 } else { 1 };
        }
        return (end + 1).min(chars.len());
    }
    let in_word = at > 0 && is_word(chars[at - 1]) && chars[at - 1] != 'b';
    if is(0, 'r') && !in_word {
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        if is(1 + hashes, '"') {
            return after(at + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    // a character, not a lifetime
    if is(0, '\'') && is(1, '\\') {
        return after(at + 3, "'");
    }
    if is(0, '\'') && is(2, '\'') { at + 3 } else { at }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Byte offsets at which `name` starts as a word of its own.
fn starts(text: &str, name: &str) -> Vec<usize> {
    let ends_word = name.ends_with(is_word);
    let own_word = |at: &usize| {
        let before = text[..*at].chars().next_back().is_some_and(is_word);
        let goes_on = ends_word && text[at + name.len()..].chars().next().is_some_and(is_word);
        !(before || goes_on)
    };
    text.match_indices(name).map(|(at, _)| at).filter(own_word).collect()
}

/// The lines, from 1, on which `name` stands as a word of its own; each once.
pub fn words(text: &str, name: &str) -> Vec<usize> {
    let mut lines: Vec<usize> = starts(text, name).into_iter().map(|at| line_of(text, at)).collect();
    lines.dedup();
    lines
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Writes out the path or group of paths that begins at `at`; returns where it ends. Found: offset of the last segment
/// and the path.
fn expand(code: &str, at: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let skip_space = |from: usize| from + code[from..].len() - code[from..].trim_start().len();
    let mut at = skip_space(at);
    if code[at..].starts_with('{') {
        at = skip_space(at + 1);
        while at < code.len() && !code[at..].starts_with('}') {
            at = expand(code, at, prefix, found);
            // a new name (`as other`) says nothing about what is used
            at += code[at..].find([',', '}']).unwrap_or(code.len() - at);
            at = skip_space(at + usize::from(code[at..].starts_with(',')));
        }
        return (at + 1).min(code.len());
    }
    let segment = code[at..].split(|c| !is_word(c)).next().unwrap_or("");
    let path = match (prefix, segment) {
        (_, "" | "self") => prefix.to_owned(),
        ("", _) => segment.to_owned(),
        _ => format!("{prefix}::{segment}"),
    };
    let end = at + segment.len();
    if code[end..].starts_with("::") && !segment.is_empty() {
        return expand(code, end + 2, &path, found);
    }
    found.push((at, path));
    end
}

/// Indent and name, where a function with a body starts on this line.
fn function_name(line: &str) -> Option<(&str, &str)> {
    let mut rest = line.trim_start();
    let indent = &line[..line.len() - rest.len()];
    if let Some(public) = rest.strip_prefix("pub") {
        rest = public.split_once(' ')?.1;
    }
    while let Some(next) = ["async ", "const ", "unsafe "].iter().find_map(|word| rest.strip_prefix(word)) {
        rest = next;
    }
    let name = rest.strip_prefix("fn ")?.split(|c| !is_word(c)).next()?;
    (!line.trim_end().ends_with(';')).then_some((indent, name))
}

/// How many lines the function has that starts on the first of `lines`; `None` where it has no body.
fn function_lines(lines: &[&str], indent: &str) -> Option<usize> {
    if lines[0].ends_with('}') {
        return Some(1);
    }
    let closing = format!("{indent}}}");
    let no_body = |line: &str| line.starts_with(&format!("{indent})")) && line.ends_with(';');
    let last = lines.iter().position(|line| *line == closing || no_body(line))?;
    (lines[last] == closing).then_some(last + 1)
}

#[test]
fn comments_and_literals_are_blanked_and_lines_stay() {
    let text = "a(\"x // \\\" y\", 'c', '\\'', b\"z\"); // end\n\
                /* two\nlines */ r#\"raw \" \"# fn f<'a>(é: &'a str)\n";
    let code = masked(text);
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a(", ",", ",", ",", "b", ");", "fn", "f<'a>(", ":", "&'a", "str)"]);
}

#[test]
fn groups_are_written_out() {
    let file = File::new(
        "src/a/b.rs",
        "use crate::{\n    a::{self, B as C, d::*},\n    e,\n};\nfn f() { crate::g::h::<u8>() }\n",
    );
    let paths: Vec<String> = file.paths("crate").into_iter().map(|(line, path)| format!("{line} {path}")).collect();
    assert_eq!(paths, ["2 a", "2 a::B", "2 a::d", "3 e", "5 g::h"]);
}

#[test]
fn functions_without_a_body_and_on_one_line_are_not_long() {
    let text = "trait T {\n    fn a(\n        &self,\n    ) -> u8;\n    fn b(&self) {}\n\
                \x20   fn c(&self) {\n        x\n    }\n}\n";
    let file = File::new("src/a/b.rs", text);
    let lengths: Vec<(String, usize)> = file.functions().into_iter().map(|f| (f.name, f.lines)).collect();
    assert_eq!(lengths, [("b".to_owned(), 1), ("c".to_owned(), 3)]);
}
