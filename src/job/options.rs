//! `WITH (key = value, ...)`: read, checked, and handed out by key.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{
    names::suggestion,
    server::Guarded,
    spec::At,
    substitute::Secret,
    tokens::{Cursor, Lexeme, Source},
};
use crate::model::{Error, Result};

/// One option as written.
#[derive(Clone)]
pub(super) struct Setting {
    pub key: String,
    pub key_at: At,
    pub value_at: At,
    /// With quotes removed and secrets filled in: never for an error or a log line.
    pub value: String,
    /// Whether all secrets in it are known; otherwise the option is as if it were left out.
    pub known: bool,
    /// As the text has it, for errors.
    pub shown: String,
}

/// The options of one table.
pub(super) struct Options<'a> {
    pub source: Source<'a>,
    /// The table's name in errors: `the source 'flows'`.
    pub owner: String,
    /// Where the table's name stands: the place of what is missing.
    pub owner_at: At,
    pub settings: Vec<Setting>,
}

/// Reads `( key = value, ... )`.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Vec<Setting>> {
    let mut settings: Vec<Setting> = Vec::new();
    cursor.expect_token(&Token::LParen)?;
    loop {
        if cursor.take_token(&Token::RParen) {
            return Ok(known(settings));
        }
        let (key, key_at) = key(cursor)?;
        if settings.iter().any(|setting| setting.key == key) {
            return Err(cursor.source.error(key_at, format!("option '{key}' is given twice")).help("keep one of them"));
        }
        cursor.expect_token(&Token::Eq)?;
        settings.push(value(cursor, key, key_at)?);
        if !cursor.take_token(&Token::Comma) {
            cursor.expect_token(&Token::RParen)?;
            return Ok(known(settings));
        }
    }
}

/// Options that are read without their secrets too: those of a command are never filled in ([`Options::shell_text`]), and a
/// server that is not asked needs none ([`Options::guarded`]).
const READ_WITHOUT: [&str; 7] = ["command", "url", "host", "port", "user", "password", "dbname"];

fn known(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| setting.known || READ_WITHOUT.contains(&setting.key.as_str()));
    settings
}

/// A key: a name, or a string as Flink writes it.
fn key(cursor: &mut Cursor<'_>) -> Result<(String, At)> {
    if let Some(Lexeme { token, start, .. }) = cursor.peek()
        && let Token::SingleQuotedString(key) = &token.token
    {
        cursor.take();
        return Ok((key.clone(), At(*start)));
    }
    let name = cursor.expect_name("the name of an option")?;
    Ok((name.text, name.at))
}

/// A value: a string, a number, `true` or `false`.
pub(super) fn value(cursor: &mut Cursor<'_>, key: String, key_at: At) -> Result<Setting> {
    let value_at = cursor.at();
    let mut known = true;
    let minus = if cursor.take_token(&Token::Minus) { "-" } else { "" };
    let value = match cursor.peek() {
        Some(Lexeme { token, start, end }) => match &token.token {
            Token::SingleQuotedString(_) if minus.is_empty() => {
                known = cursor.source.secrets_in(*start..*end).iter().all(|secret| secret.value.is_some());
                unquoted(cursor.source, *start, *end)
            }
            Token::Number(number, _) => format!("{minus}{number}"),
            Token::Word(word) if minus.is_empty() && word.quote_style.is_none() && is_switch(&word.value) => {
                word.value.to_ascii_lowercase()
            }
            _ => return Err(not_a_value(cursor)),
        },
        None => return Err(not_a_value(cursor)),
    };
    let end = cursor.take().map_or(value_at.0, |lexeme| lexeme.end);
    let shown = cursor.source.text[value_at.0..end].to_owned();
    Ok(Setting { key, key_at, value_at, value, known, shown })
}

fn is_switch(word: &str) -> bool {
    word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false")
}

fn not_a_value(cursor: &Cursor<'_>) -> Error {
    let error = cursor.expected("a value");
    match cursor.peek().map(|lexeme| &lexeme.token.token) {
        Some(Token::Word(word)) => error.help(format!("write it in single quotes: '{}'", word.value)),
        _ => error.help("a value is a string in single quotes, a number, true or false"),
    }
}

/// The characters of the string literal at these bytes, its secrets filled in.
fn unquoted(source: Source<'_>, start: usize, end: usize) -> String {
    let (mut from, end) = (start + 1, end.saturating_sub(1));
    let mut value = String::new();
    for secret in source.secrets_in(start..end) {
        value.push_str(&source.text[from..secret.at.start].replace("''", "'"));
        value.push_str(secret.value.as_deref().unwrap_or_default());
        from = secret.at.end;
    }
    value.push_str(&source.text[from..end.max(from)].replace("''", "'"));
    value
}

impl Options<'_> {
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.key == key)
    }

    /// Checks that every key is one of `known`; those in `unbuilt` are planned, and refused with that reason.
    pub fn check_keys(&self, known: &[&str], unbuilt: &[&str]) -> Result<()> {
        let Some(setting) = self.settings.iter().find(|setting| !known.contains(&setting.key.as_str())) else {
            return Ok(());
        };
        let key = &setting.key;
        if unbuilt.contains(&key.as_str()) {
            return Err(self
                .source
                .error(setting.key_at, format!("option '{key}' is not built yet"))
                .because("it is planned, and ignoring it would change what the job means")
                .help("leave it out"));
        }
        Err(self
            .source
            .error(setting.key_at, format!("unknown option '{key}'"))
            .because(format!("{} knows no such option", self.owner))
            .help(suggestion(key, known.iter().copied())))
    }

    /// A folder or file, with nothing secret in it: the checkpoint keeps absolute paths, and progress names them.
    pub fn path(&self, example: &str) -> Result<&Setting> {
        self.path_of("path", example)
    }

    /// As [`Options::path`], of another key.
    pub fn path_of(&self, key: &str, example: &str) -> Result<&Setting> {
        let setting = self.required(key, example)?;
        let why = "what it stands for is never stored, and the checkpoint keeps where input and output are";
        self.refuse_secret(setting, "a path", why)?;
        Ok(setting)
    }

    /// A name in a place that [`Options::path`] leads to, with nothing secret in it either; `None`: not given.
    pub fn name_of(&self, key: &str, example: &str) -> Result<Option<&Setting>> {
        if self.get(key).is_none() {
            return Ok(None);
        }
        let setting = self.required(key, example)?;
        let why = "what it stands for is never stored, and the checkpoint keeps where output is";
        self.refuse_secret(setting, "a name", why)?;
        Ok(Some(setting))
    }

    /// The text of a shell's command, and the names of the secrets in it. They stay names, `${NAME}`, for the shell to look up
    /// in its environment: what is written into the text itself can be seen by every user of the machine (`ps`), and
    /// would be read as a part of the command.
    pub fn shell_text(&self, setting: &Setting) -> (String, Vec<String>) {
        let written = setting.value_at.0..setting.value_at.0 + setting.shown.len();
        let (mut from, end) = (written.start + 1, written.end.saturating_sub(1));
        let (mut text, mut names) = (String::new(), Vec::new());
        let secrets = self.source.secrets_in(written);
        if secrets.is_empty() {
            return (setting.value.clone(), names);
        }
        for secret in secrets {
            let shown = &self.source.text[secret.at.clone()];
            let name = shown.trim_start_matches("${env:").trim_end_matches('}');
            text += &self.source.text[from..secret.at.start].replace("''", "'");
            text += &format!("${{{name}}}");
            names.push(name.to_owned());
            from = secret.at.end;
        }
        text += &self.source.text[from..end.max(from)].replace("''", "'");
        (text, names)
    }

    /// A value that may be secret, for a server's ears only.
    pub fn guarded(&self, setting: &Setting) -> Guarded {
        let written = setting.value_at.0..setting.value_at.0 + setting.shown.len();
        let name = |secret: &Secret| {
            let shown = &self.source.text[secret.at.clone()];
            shown.trim_start_matches("${env:").trim_end_matches('}').to_owned()
        };
        let secrets: Vec<String> = self.source.secrets_in(written).iter().map(name).collect();
        let shown = setting.shown.trim_matches('\'').replace("''", "'");
        Guarded { value: setting.value.clone(), shown, secrets, known: setting.known }
    }

    /// What a query means must be known wherever the checkpoint's job is read again.
    pub fn refuse_secrets_in(&self, keys: &[&str]) -> Result<()> {
        let why = "what it stands for is never stored, and the query would be another one without it";
        let mut settings = self.settings.iter().filter(|setting| keys.contains(&setting.key.as_str()));
        settings.try_for_each(|setting| self.refuse_secret(setting, &format!("option '{}'", setting.key), why))
    }

    /// What a secret of its own is for must not be written into the job, which the checkpoint keeps.
    pub fn need_secret(&self, setting: &Setting) -> Result<()> {
        let written = setting.value_at.0..setting.value_at.0 + setting.shown.len();
        if !self.source.secrets_in(written).is_empty() {
            return Ok(());
        }
        Err(self
            .source
            .error(setting.value_at, format!("option '{}' is not a secret of the environment", setting.key))
            .because("the checkpoint keeps the job as it is written, and shows it")
            .help(format!("write {} = '${{env:NAME}}', and set NAME in the environment", setting.key)))
    }

    fn refuse_secret(&self, setting: &Setting, place: &str, why: &str) -> Result<()> {
        let written = setting.value_at.0..setting.value_at.0 + setting.shown.len();
        let Some(secret) = self.source.secrets_in(written).first() else { return Ok(()) };
        let shown = &self.source.text[secret.at.clone()];
        let error = self.source.error(At(secret.at.start), format!("{shown} stands in {place}"));
        Err(error.because(why).help("write ${NAME} for what is no secret"))
    }

    /// An option that must be there and not be empty.
    pub fn required(&self, key: &str, example: &str) -> Result<&Setting> {
        let Some(setting) = self.get(key) else {
            return Err(self
                .source
                .error(self.owner_at, format!("{} has no option '{key}'", self.owner))
                .help(format!("add {key} = '{example}'")));
        };
        if setting.value.trim().is_empty() {
            return Err(self
                .source
                .error(setting.value_at, format!("option '{key}' is empty"))
                .help(format!("for instance {key} = '{example}'")));
        }
        Ok(setting)
    }

    /// An option's value, read by `read`; `form` says what it must look like.
    pub fn parse<T>(&self, key: &str, form: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(setting) = self.get(key) else {
            return Ok(None);
        };
        match read(&setting.value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.bad_value(setting).help(format!("it must be {form}"))),
        }
    }

    /// An option whose value is one of a few words, in any case.
    pub fn choose<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        self.get(key).map(|setting| self.pick(setting, choices)).transpose()
    }

    /// What a setting's word stands for.
    pub fn pick<T: Copy>(&self, setting: &Setting, choices: &[(&str, T)]) -> Result<T> {
        let word = setting.value.trim();
        if let Some((_, choice)) = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
            return Ok(*choice);
        }
        Err(self.bad_value(setting).help(suggestion(word, choices.iter().map(|(name, _)| *name))))
    }

    pub fn bad_value(&self, setting: &Setting) -> Error {
        self.source.error(setting.value_at, format!("option '{}' has a bad value {}", setting.key, setting.shown))
    }
}
