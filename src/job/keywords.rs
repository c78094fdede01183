//! The slip behind a syntax error: a misspelt keyword, a missing comma, a missing BY.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{names::nearest, spec::At, tokens::Lexeme};

/// Words that a query is made of.
const KEYWORDS: [&str; 33] = [
    "SELECT", "FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "JOIN", "INNER", "LEFT", "RIGHT",
    "UNION", "DISTINCT", "BETWEEN", "LIKE", "CASE", "WHEN", "THEN", "ELSE", "AND", "NOT", "NULL", "ASC", "DESC",
    "INSERT", "INTO", "CREATE", "TABLE", "VIEW", "WITH", "USING", "INTERVAL",
];

/// Letters from which on a word is long enough to be a misspelt keyword, or to begin with one.
const LETTERS_MIN: usize = 3;

/// What probably is wrong, and where.
pub(super) struct Slip {
    pub at: At,
    pub help: String,
}

/// The keyword that was probably meant by a word that is none.
pub(super) fn nearest_keyword(word: &str) -> Option<String> {
    let upper = word.to_ascii_uppercase();
    if KEYWORDS.contains(&upper.as_str()) || upper.len() < LETTERS_MIN {
        return None;
    }
    let longer = || KEYWORDS.iter().find(|keyword| keyword.len() >= LETTERS_MIN && upper.starts_with(**keyword));
    nearest(&upper, KEYWORDS).or_else(|| longer().map(|keyword| (*keyword).to_owned()))
}

/// Looks for a slip at the lexeme at which the parser stopped (`None`: at the end), and in front of it: what is
/// misspelt is often taken for a name, and the error comes with the word behind it.
pub(super) fn slip(lexemes: &[Lexeme], stopped: Option<usize>) -> Option<Slip> {
    let stopped = stopped.unwrap_or(lexemes.len());
    let word = |index: usize| lexemes.get(index).and_then(word);
    let keyword = |index: usize| word(index).is_some_and(|word| KEYWORDS.iter().any(|k| k.eq_ignore_ascii_case(word)));
    let before = |index: usize, steps: usize| index.checked_sub(steps);
    for index in [Some(stopped), before(stopped, 1)].into_iter().flatten() {
        // a name follows these, whatever it looks like
        let is_name = before(index, 1)
            .is_some_and(|index| matches!(lexemes[index].token.token, Token::Comma | Token::Period | Token::LParen));
        if let Some(near) = word(index).filter(|_| !is_name).and_then(nearest_keyword) {
            return Some(Slip { at: At(lexemes[index].start), help: format!("did you mean {near}?") });
        }
    }
    let (last, found) = (before(stopped, 1)?, lexemes.get(stopped));
    let at = |index: usize| At(lexemes[index].start);
    let is = |index: usize, wanted: &str| word(index).is_some_and(|word| word.eq_ignore_ascii_case(wanted));
    for (clause, index) in ["GROUP", "ORDER"].into_iter().flat_map(|clause| [(clause, stopped), (clause, last)]) {
        if is(index, clause) && !is(index + 1, "BY") {
            return Some(Slip { at: at(index), help: format!("write {clause} BY") });
        }
    }
    if (is(last, "AND") || is(last, "OR")) && before(last, 1).is_some_and(|index| word(index).is_none()) {
        return Some(Slip { at: at(last), help: "something is missing in front of it".to_owned() });
    }
    if before(stopped, 3).is_some_and(|index| is(index, "FILTER")) {
        return Some(Slip { at: at(last), help: "write FILTER (WHERE ...)".to_owned() });
    }
    let opens = found.is_some_and(|lexeme| lexeme.token.token == Token::LParen);
    let two_names =
        word(last).is_some() && !keyword(last) && before(last, 1).is_some_and(|i| word(i).is_some() && !keyword(i));
    (opens && two_names).then(|| Slip { at: at(last), help: "is a comma missing in front of it?".to_owned() })
}

/// An unquoted word.
fn word(lexeme: &Lexeme) -> Option<&str> {
    match &lexeme.token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(&word.value),
        _ => None,
    }
}
