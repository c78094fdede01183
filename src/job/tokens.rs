//! A job's text as tokens that know where they stand, and a cursor over one statement.

use std::ops::Range;

use datafusion::sql::sqlparser::{
    dialect::GenericDialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer},
};

use super::{
    keywords,
    spec::{At, JobSpec, place_in},
    substitute::Secret,
};
use crate::model::{Error, Result};

/// The dialect that DataFusion plans with, too.
pub(super) const DIALECT: GenericDialect = GenericDialect;

/// The text that is being read, under the name that errors give it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
    pub secrets: &'a [Secret],
}

impl Source<'_> {
    pub fn error(&self, at: At, what: impl Into<String>) -> Error {
        Error::usage(what).at(place_in(self.file, self.text, at))
    }

    /// The secrets that stand in a part of the text.
    pub fn secrets_in(&self, part: Range<usize>) -> &[Secret] {
        let first = self.secrets.partition_point(|secret| secret.at.start < part.start);
        let end = self.secrets.partition_point(|secret| secret.at.start < part.end);
        &self.secrets[first..end.max(first)]
    }
}

/// A token and the bytes that it takes in the text. Space and comments are no lexemes.
#[derive(Debug, Clone)]
pub(super) struct Lexeme {
    pub token: TokenWithSpan,
    pub start: usize,
    pub end: usize,
}

/// Where each line of a text begins, to turn the parser's lines and columns into offsets.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect();
        Lines { text, starts }
    }

    /// The offset of a location (lines and columns from 1, columns in characters); one outside of the text is
    /// moved to the nearest end of its line.
    fn offset(&self, location: Location) -> usize {
        let line = usize::try_from(location.line).unwrap_or(usize::MAX).saturating_sub(1);
        let Some(&start) = self.starts.get(line) else {
            return self.text.len();
        };
        let end = self.starts.get(line + 1).copied().unwrap_or(self.text.len());
        let column = usize::try_from(location.column).unwrap_or(usize::MAX).saturating_sub(1);
        self.text[start..end].char_indices().nth(column).map_or(end, |(offset, _)| start + offset)
    }
}

/// Cuts a text into its lexemes.
///
/// # Errors
/// Of kind `Usage`, with the place, where a string, a name or a comment does not end.
pub(super) fn tokenize(source: Source<'_>) -> Result<Vec<Lexeme>> {
    let lines = Lines::new(source.text);
    let tokens = Tokenizer::new(&DIALECT, source.text).tokenize_with_location().map_err(|error| {
        let at = At(lines.offset(error.location));
        source.error(at, "this is not SQL").because(lower_first(&error.message))
    })?;
    let mut lexemes = Vec::with_capacity(tokens.len());
    let mut walked = (Location { line: 1, column: 1 }, 0);
    for token in tokens {
        if matches!(token.token, Token::Whitespace(_)) {
            continue;
        }
        let start = advance(&lines, &mut walked, token.span.start);
        let end = advance(&lines, &mut walked, token.span.end).max(start);
        lexemes.push(Lexeme { token, start, end });
    }
    Ok(lexemes)
}

/// The offset of a location, walking on from the one before where that is on the same line: a long line costs
/// once, not once for each of its tokens.
fn advance(lines: &Lines<'_>, walked: &mut (Location, usize), to: Location) -> usize {
    let (from, offset) = *walked;
    let offset = if to.line == from.line && to.column >= from.column {
        let ahead = usize::try_from(to.column - from.column).unwrap_or(usize::MAX);
        let rest = &lines.text[offset..];
        rest.char_indices().nth(ahead).map_or(lines.text.len(), |(length, _)| offset + length)
    } else {
        lines.offset(to)
    };
    *walked = (to, offset);
    offset
}

/// Cuts a job into statements at the semicolons; empty ones are left out.
pub(super) fn statements(lexemes: &[Lexeme]) -> impl Iterator<Item = &[Lexeme]> {
    lexemes.split(|lexeme| lexeme.token.token == Token::SemiColon).filter(|statement| !statement.is_empty())
}

/// Reads one statement from left to right.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub source: Source<'a>,
    lexemes: &'a [Lexeme],
    next: usize,
}

/// A name, as DataFusion resolves it: in lower case unless it was quoted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Name {
    pub text: String,
    pub at: At,
}

impl<'a> Cursor<'a> {
    /// At the start of a statement, which is not empty.
    pub fn new(source: Source<'a>, lexemes: &'a [Lexeme]) -> Cursor<'a> {
        Cursor { source, lexemes, next: 0 }
    }

    pub fn peek(&self) -> Option<&'a Lexeme> {
        self.lexemes.get(self.next)
    }

    /// Where the next token stands, or the end of the statement.
    pub fn at(&self) -> At {
        match (self.peek(), self.lexemes.last()) {
            (Some(lexeme), _) => At(lexeme.start),
            (None, Some(last)) => At(last.end),
            (None, None) => At(0),
        }
    }

    pub fn take(&mut self) -> Option<&'a Lexeme> {
        let lexeme = self.peek()?;
        self.next += 1;
        Some(lexeme)
    }

    /// Whether the next token is this unquoted word, in any case.
    pub fn is_word(&self, word: &str) -> bool {
        matches!(self.peek().map(|lexeme| &lexeme.token.token),
            Some(Token::Word(next)) if next.quote_style.is_none() && next.value.eq_ignore_ascii_case(word))
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.next += usize::from(found);
        found
    }

    pub fn take_token(&mut self, token: &Token) -> bool {
        let found = self.peek().is_some_and(|lexeme| lexeme.token.token == *token);
        self.next += usize::from(found);
        found
    }

    pub fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.take_token(token) { Ok(()) } else { Err(self.expected(&format!("'{token}'"))) }
    }

    pub fn expect_end(&self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.expected(STATEMENT_END)) }
    }

    /// A name; `what` says of what, for the error.
    pub fn expect_name(&mut self, what: &str) -> Result<Name> {
        let at = self.at();
        match self.peek().map(|lexeme| &lexeme.token.token) {
            Some(Token::Word(word)) => {
                self.next += 1;
                let text = match word.quote_style {
                    Some(_) => word.value.clone(),
                    None => word.value.to_ascii_lowercase(),
                };
                Ok(Name { text, at })
            }
            _ => Err(self.expected(what)),
        }
    }

    /// `expected X, found Y`, at the next token.
    pub fn expected(&self, what: &str) -> Error {
        let found = match self.peek() {
            Some(lexeme) => format!("'{}'", &self.source.text[lexeme.start..lexeme.end]),
            None => STATEMENT_END.to_owned(),
        };
        self.source.error(self.at(), format!("expected {what}, found {found}"))
    }

    /// The text from the next token to the end of the statement, and where it begins.
    pub fn rest(&self) -> (&'a str, At) {
        let at = self.at();
        let end = self.lexemes.last().map_or(at.0, |last| last.end);
        (&self.source.text[at.0..end], at)
    }

    /// Lets the SQL parser read the rest of the statement, and nothing may be left over.
    pub fn parse_rest<T>(
        &self,
        read: impl FnOnce(&mut Parser<'_>) -> std::result::Result<T, ParserError>,
    ) -> Result<T> {
        self.refuse_assignments()?;
        let tokens = self.lexemes[self.next..].iter().map(|lexeme| lexeme.token.clone()).collect();
        let mut parser = Parser::new(&DIALECT).with_tokens_with_locations(tokens);
        let read = read(&mut parser).and_then(|read| match parser.peek_token() {
            TokenWithSpan { token: Token::EOF, .. } => Ok(read),
            more => parser.expected(STATEMENT_END, more),
        });
        read.map_err(|error| self.syntax(&error))
    }

    /// The parser takes `:=` for the name of an argument and for an operator, and where what follows is wrong it tries both:
    /// twenty of them inside of each other took it seconds. `=>`, which means the same, it takes for a name only.
    fn refuse_assignments(&self) -> Result<()> {
        let mut lexemes = self.lexemes[self.next..].iter();
        let Some(found) = lexemes.find(|lexeme| lexeme.token.token == Token::Assignment) else { return Ok(()) };
        Err(self
            .source
            .error(At(found.start), "':=' is not taken in a query")
            .because("SQL's parser goes back and forth over it, for minutes where what follows is wrong")
            .help("write => behind the name of an argument, or = to compare"))
    }

    fn syntax(&self, error: &ParserError) -> Error {
        let message = match error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message.as_str(),
            ParserError::RecursionLimitExceeded => {
                let at = self.at();
                return self
                    .source
                    .error(at, "this statement is nested too deeply")
                    .help("split it with CREATE VIEW or WITH");
            }
        };
        let (message, location) = split_location(message);
        let end = self.lexemes.last().map_or(0, |last| last.end);
        let at = location.map_or(end, |location| Lines::new(self.source.text).offset(location));
        let why = message.replacen("Expected: ", "expected ", 1).replacen(", found: ", ", found ", 1);
        let is_next_statement = ["SELECT", "INSERT", "CREATE", "WITH", "SET"]
            .iter()
            .any(|word| why == format!("expected {STATEMENT_END}, found {word}"));
        let error = self.source.error(At(at), "this is not SQL").because(lower_first(&why));
        if is_next_statement {
            return error.help("end the statement before it with ';'");
        }
        let lexemes = &self.lexemes[self.next..];
        match keywords::slip(lexemes, lexemes.iter().position(|lexeme| lexeme.start >= at)) {
            Some(slip) => error.at(place_in(self.source.file, self.source.text, slip.at)).help(slip.help),
            None => error,
        }
    }
}

const STATEMENT_END: &str = "the end of the statement";

/// The parser puts the place at the end of its messages: ` at Line: 1, Column: 5`.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let split = || {
        let (what, place) = message.rsplit_once(" at Line: ")?;
        let (line, column) = place.split_once(", Column: ")?;
        Some((what, Location { line: line.parse().ok()?, column: column.parse().ok()? }))
    };
    split().map_or((message, None), |(what, location)| (what, Some(location)))
}

fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

impl JobSpec {
    /// Where a line and column (both from 1, columns in characters) of a piece of the job's SQL are that begins at
    /// `sql_at`; one outside of it is moved to the nearest end of its line.
    pub fn find_location(sql: &str, sql_at: At, line: u64, column: u64) -> At {
        At(sql_at.0 + Lines::new(sql).offset(Location { line, column }))
    }

    /// Where a word stands in a piece of the job's SQL that begins at `sql_at`: the first name equal to it, quotes
    /// and case aside. For errors of the planner, which names columns but not their places; of a qualified name the
    /// last part is looked for.
    pub fn find_token(sql: &str, sql_at: At, word: &str) -> Option<At> {
        let source = Source { file: "", text: sql, secrets: &[] };
        let lexemes = tokenize(source).ok()?;
        let find = |wanted: &str| {
            let is_it = |lexeme: &&Lexeme| {
                matches!(&lexeme.token.token,
                Token::Word(found) if found.value.eq_ignore_ascii_case(wanted) || found.value == wanted)
            };
            lexemes.iter().find(is_it).map(|lexeme| At(sql_at.0 + lexeme.start))
        };
        let bare = |part: &str| part.trim_matches(['"', '`']).to_owned();
        find(&bare(word)).or_else(|| find(&bare(word.rsplit('.').next()?)))
    }
}

/// Whether a lexeme is a reserved word that begins a query.
pub(super) fn begins_query(lexeme: &Lexeme) -> bool {
    match &lexeme.token.token {
        Token::Word(word) => matches!(word.keyword, Keyword::SELECT | Keyword::WITH),
        Token::LParen => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lexemes_know_their_bytes() {
        let text = "SELECT 'é' , \"Ü\"\n -- no ;\n FROM /* ; */ tä;\r\nx";
        let source = Source { file: "a", text, secrets: &[] };
        let lexemes = tokenize(source).unwrap();
        let texts: Vec<&str> = lexemes.iter().map(|lexeme| &text[lexeme.start..lexeme.end]).collect();
        assert_eq!(texts, ["SELECT", "'é'", ",", "\"Ü\"", "FROM", "tä", ";", "x"]);
        assert_eq!(statements(&lexemes).map(<[Lexeme]>::len).collect::<Vec<_>>(), [6, 1]);
    }

    #[test]
    fn words_are_found_where_they_stand() {
        let find =
            |word| JobSpec::find_token("SELECT 'dst', /* dst */ t.DST, \"a b\" FROM t", At(100), word).map(|at| at.0);
        assert_eq!(find("dst"), Some(126));
        assert_eq!(find("\"dst\""), Some(126));
        assert_eq!(find("t.dst"), Some(126));
        assert_eq!(find("a b"), Some(131));
        assert_eq!(find("nowhere"), None);
        assert_eq!(JobSpec::find_token("'open", At(0), "open"), None);
    }
}
