//! `${NAME}` in a job file: what fills it, and where it may stand.
//!
//! What `${NAME}` stands for is kept with the job, so that a resume runs the same text. `${env:NAME}` is for
//! secrets: it stays as it is in the text that is kept and shown, and only the value of an option sees what it
//! stands for.

use std::{collections::BTreeMap, ffi::OsString, fmt, ops::Range};

use super::{
    names::nearest,
    spec::{At, JobSpec, place_in},
};
use crate::model::{Error, Result};

type Lookup = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// What fills the `${NAME}`s of a job: values given by name first, then the environment.
pub struct Variables {
    given: BTreeMap<String, String>,
    environment: Lookup,
    /// Whether a job may be read without its secrets: an option that holds one which is not set is as if left out.
    secrets_optional: bool,
}

impl Variables {
    /// `given` (from `--set`, or from a checkpoint) before the environment of this process.
    pub fn new(given: BTreeMap<String, String>) -> Variables {
        Variables::with_environment(given, |name| std::env::var_os(name))
    }

    /// The same with an environment of the caller's.
    pub fn with_environment(
        given: BTreeMap<String, String>,
        environment: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
    ) -> Variables {
        Variables { given, environment: Box::new(environment), secrets_optional: false }
    }

    /// For a job that a checkpoint keeps and nobody runs: what connects needs its secrets, reading results does not.
    pub fn without_secrets(given: BTreeMap<String, String>) -> Variables {
        Variables { secrets_optional: true, ..Variables::new(given) }
    }

    /// Checks that the job has a place for every value given by name.
    ///
    /// # Errors
    /// Of kind `Usage` for a name that stands nowhere in the job, with the nearest that does.
    pub fn check_all_used(&self, job: &JobSpec) -> Result<()> {
        let Some(unused) = self.given.keys().find(|name| !job.variables.contains_key(*name)) else {
            return Ok(());
        };
        let error = Error::usage(format!("--set {unused}: the job has no ${{{unused}}}"));
        Err(match nearest(unused, job.variables.keys().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean --set {near}=...?")),
            None => error.help("leave it out, or write the name into the job file"),
        })
    }

    /// A variable of the environment; an empty one counts as not set.
    fn look_up(&self, name: &str) -> std::result::Result<Option<String>, &'static str> {
        match (self.environment)(name) {
            Some(value) if value.is_empty() => Ok(None),
            Some(value) => value.into_string().map(Some).map_err(|_| "its value in the environment is not UTF-8"),
            None => Ok(None),
        }
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("given", &self.given).finish_non_exhaustive()
    }
}

/// A secret in the text: where its `${env:NAME}` stands, and what it stands for.
pub(super) struct Secret {
    pub at: Range<usize>,
    /// `None`: it is not set, and need not be.
    pub value: Option<String>,
}

/// A job's text with its variables filled in.
pub(super) struct Filled {
    /// Every `${env:NAME}` is still in place.
    pub text: String,
    pub variables: BTreeMap<String, String>,
    /// In the order of the text.
    pub secrets: Vec<Secret>,
}

/// Fills in a job's text.
///
/// # Errors
/// Of kind `Usage`, with the place in the template: nothing fills a name, or what stands between `${` and `}` is
/// none.
pub(super) fn fill(file: &str, template: &str, variables: &Variables) -> Result<Filled> {
    let mut filler = Filler {
        file,
        template,
        variables,
        context: Context::Sql,
        filled: Filled { text: String::with_capacity(template.len()), variables: BTreeMap::new(), secrets: Vec::new() },
    };
    let mut at = if template.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while at < template.len() {
        at += filler.step(at)?;
    }
    Ok(filler.filled)
}

/// What the scanner is inside of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Sql,
    LineComment,
    /// Block comments nest.
    BlockComment(u32),
    /// A string or a quoted name; `backslash`: an `E'...'` string, where a backslash escapes.
    Quoted {
        quote: char,
        backslash: bool,
    },
}

struct Filler<'a> {
    file: &'a str,
    template: &'a str,
    variables: &'a Variables,
    context: Context,
    filled: Filled,
}

impl Filler<'_> {
    /// Takes what begins at `at`; returns its length in bytes.
    fn step(&mut self, at: usize) -> Result<usize> {
        let rest = &self.template[at..];
        let in_comment = matches!(self.context, Context::LineComment | Context::BlockComment(_));
        if !in_comment && rest.starts_with("$${") {
            self.filled.text.push_str("${");
            return Ok(3);
        }
        if !in_comment && rest.starts_with("${") {
            return self.variable(at);
        }
        let taken = self.follow(at, rest);
        self.filled.text.push_str(&rest[..taken]);
        Ok(taken)
    }

    /// Follows the context over what begins `rest`; returns how much of it that was.
    fn follow(&mut self, at: usize, rest: &str) -> usize {
        let mut chars = rest.chars();
        let (Some(first), second) = (chars.next(), chars.next()) else {
            return 0;
        };
        let both = first.len_utf8() + second.map_or(0, char::len_utf8);
        let (context, taken) = match (self.context, first, second) {
            (Context::Sql, '-', Some('-')) => (Context::LineComment, both),
            (Context::Sql, '/', Some('*')) => (Context::BlockComment(1), both),
            (Context::Sql, '\'' | '"' | '`', _) => {
                (Context::Quoted { quote: first, backslash: first == '\'' && self.is_escape_prefix(at) }, 1)
            }
            (Context::LineComment, '\n', _) => (Context::Sql, 1),
            (Context::BlockComment(depth), '/', Some('*')) => (Context::BlockComment(depth + 1), both),
            (Context::BlockComment(1), '*', Some('/')) => (Context::Sql, both),
            (Context::BlockComment(depth), '*', Some('/')) => (Context::BlockComment(depth - 1), both),
            (Context::Quoted { backslash: true, .. }, '\\', Some(next)) if next != '$' => (self.context, both),
            (Context::Quoted { quote, .. }, _, _) if first == quote && second == Some(quote) => (self.context, both),
            (Context::Quoted { quote, .. }, _, _) if first == quote => (Context::Sql, 1),
            (context, _, _) => (context, first.len_utf8()),
        };
        self.context = context;
        taken
    }

    /// Whether the quote at `at` follows a lone `E`.
    fn is_escape_prefix(&self, at: usize) -> bool {
        let mut before = self.template[..at].chars().rev();
        matches!(before.next(), Some('e' | 'E')) && !before.next().is_some_and(|c| c.is_alphanumeric() || c == '_')
    }

    /// Fills in the `${...}` that begins at `at`; returns its length.
    fn variable(&mut self, at: usize) -> Result<usize> {
        let Some(length) = self.template[at..].find('}') else {
            return Err(self.error(at, "'${' without '}'").help("write ${NAME}, or $${ for the characters themselves"));
        };
        let inner = &self.template[at + 2..at + length];
        match inner.strip_prefix("env:") {
            Some(name) => self.secret(at, name)?,
            None => {
                let (name, default) = match inner.split_once(":-") {
                    Some((name, default)) => (name, Some(default)),
                    None => (inner, None),
                };
                self.check_name(at, name)?;
                let value = self.value(at, name, default)?;
                let inside = self.escaped(&value);
                self.filled.text.push_str(&inside);
                self.filled.variables.insert(name.to_owned(), value);
            }
        }
        Ok(length + 1)
    }

    fn secret(&mut self, at: usize, name: &str) -> Result<()> {
        self.check_name(at, name)?;
        if !matches!(self.context, Context::Quoted { quote: '\'', .. }) {
            return Err(self
                .error(at, format!("${{env:{name}}} stands outside of a string"))
                .because("what it stands for is never stored, so it may fill only the value of an option")
                .help(format!("write it in quotes: '${{env:{name}}}'")));
        }
        let value = match self.variables.look_up(name) {
            Ok(Some(value)) => Some(value),
            Ok(None) if self.variables.secrets_optional => None,
            Ok(None) => {
                return Err(self
                    .error(at, format!("nothing fills ${{env:{name}}}"))
                    .because(format!("the environment has no {name}"))
                    .help(format!("set {name} in the environment of this command")));
            }
            Err(why) => {
                return Err(self.error(at, format!("nothing fills ${{env:{name}}}")).because(why));
            }
        };
        let start = self.filled.text.len();
        self.filled.text.push_str(&format!("${{env:{name}}}"));
        self.filled.secrets.push(Secret { at: start..self.filled.text.len(), value });
        Ok(())
    }

    fn value(&self, at: usize, name: &str, default: Option<&str>) -> Result<String> {
        if let Some(value) = self.variables.given.get(name) {
            return Ok(value.clone());
        }
        match (self.variables.look_up(name), default) {
            (Ok(Some(value)), _) => Ok(value),
            (Ok(None), Some(default)) => Ok(default.to_owned()),
            (Ok(None), None) => Err(self
                .error(at, format!("nothing fills ${{{name}}}"))
                .because("it is not given, not in the environment, and has no default")
                .help(format!("--set {name}=..."))),
            (Err(why), _) => {
                Err(self.error(at, format!("nothing fills ${{{name}}}")).because(why).help(format!("--set {name}=...")))
            }
        }
    }

    /// A value as it may stand here: inside quotes it cannot end them.
    fn escaped(&self, value: &str) -> String {
        match self.context {
            Context::Quoted { quote, backslash } => {
                let doubled = value.replace(quote, &format!("{quote}{quote}"));
                if backslash { doubled.replace('\\', "\\\\") } else { doubled }
            }
            _ => value.to_owned(),
        }
    }

    fn check_name(&self, at: usize, name: &str) -> Result<()> {
        let mut chars = name.chars();
        let good = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
        if good {
            return Ok(());
        }
        Err(self
            .error(at, format!("'{name}' is not the name of a variable"))
            .because("a name is letters, digits and '_', and begins with no digit")
            .help("write ${NAME}, ${NAME:-default} or ${env:NAME}, or $${ for the characters themselves"))
    }

    fn error(&self, at: usize, what: impl Into<String>) -> Error {
        Error::usage(what).at(place_in(self.file, self.template, At(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Result<Filled> {
        let given = [("A", "x"), ("Q", "it's"), ("P", "${A}"), ("B", "\\'")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let environment = |name: &str| match name {
            "A" | "E" => Some(OsString::from("from env")),
            "S" => Some(OsString::from("se'cret")),
            "EMPTY" => Some(OsString::new()),
            _ => None,
        };
        fill("a.sql", template, &Variables::with_environment(given, environment))
    }

    #[test]
    fn values_stand_where_the_names_stood() {
        for (template, text) in [
            ("${A}", "x"),
            ("${E}", "from env"),
            ("${E:-d}", "from env"),
            ("${N:-d e}", "d e"),
            ("${N:-}", ""),
            ("${EMPTY:-d}", "d"),
            ("$${A}", "${A}"),
            ("'${Q}' ${Q}", "'it''s' it's"),
            ("\"${Q}\"", "\"it's\""),
            ("E'${B}' '${B}'", "E'\\\\''' '\\'''"),
            ("E'\\'${Q}'", "E'\\'it''s'"),
            ("'a''${Q}'", "'a''it''s'"),
            ("${P}", "${A}"),
            ("-- ${N}\n${A}", "-- ${N}\nx"),
            ("/* ${N} /* */ ${N} */${A}", "/* ${N} /* */ ${N} */x"),
            ("'--${A}'", "'--x'"),
            ("\u{feff}${A}", "x"),
            ("$1 $ {", "$1 $ {"),
        ] {
            assert_eq!(filled(template).unwrap().text, text, "{template}");
        }
    }

    #[test]
    fn what_was_filled_in_is_kept_but_no_secret() {
        let filled = filled("'${A}${N:-d}${env:S}'").unwrap();
        assert_eq!(filled.text, "'xd${env:S}'");
        assert_eq!(filled.variables, [("A", "x"), ("N", "d")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        assert_eq!(filled.secrets.len(), 1);
        assert_eq!(filled.secrets[0].value.as_deref(), Some("se'cret"));
        assert_eq!(&filled.text[filled.secrets[0].at.clone()], "${env:S}");
    }

    #[test]
    fn what_cannot_be_filled_is_an_error_with_its_place() {
        for (template, what) in [
            ("${N}", "nothing fills ${N}"),
            ("${EMPTY}", "nothing fills ${EMPTY}"),
            ("'${env:N}'", "nothing fills ${env:N}"),
            ("${env:S}", "${env:S} stands outside of a string"),
            ("${A", "'${' without '}'"),
            ("${}", "'' is not the name of a variable"),
            ("${1A}", "'1A' is not the name of a variable"),
            ("'${env:S:-d}'", "'S:-d' is not the name of a variable"),
        ] {
            let error = filled(template).err().unwrap_or_else(|| panic!("{template} was filled"));
            assert_eq!(error.what(), what);
        }
        assert_eq!(
            filled("a\n  'é${N}'").err().map(|error| error.to_string()).unwrap_or_default(),
            "nothing fills ${N}\n  --> a.sql:2:5\n   |   'é${N}'\n   |     ^\n  why: it is not given, not in the \
             environment, and has no default\n  help: --set N=..."
        );
    }
}
