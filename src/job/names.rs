//! Names in errors: the known one that was probably meant.

/// The candidate nearest to a misspelt word, if any is near enough to be what was meant. Case and underscores do
/// not count, so that Spark's `maxFilesPerTrigger` finds `max_files_per_trigger`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = folded(word);
    let letters = word.chars().count();
    // a word of one letter is near to everything
    let distance_max = (letters / 3).max(1).min(letters.saturating_sub(1));
    let near = |candidate: &'a str| (strsim::damerau_levenshtein(&word, &folded(candidate)), candidate);
    let (distance, best) =
        candidates.into_iter().map(near).min_by_key(|(distance, name)| (*distance, !same_first(&word, name)))?;
    (distance <= distance_max).then(|| best.to_owned())
}

/// A slip seldom hits the first letter.
fn same_first(word: &str, candidate: &str) -> bool {
    word.chars().next() == folded(candidate).chars().next()
}

/// Functions that are meant more often than their neighbours in the alphabet.
const COMMON: [&str; 30] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "stddev",
    "array_agg",
    "string_agg",
    "first_value",
    "last_value",
    "approx_distinct",
    "upper",
    "lower",
    "length",
    "substr",
    "substring",
    "trim",
    "concat",
    "replace",
    "split_part",
    "coalesce",
    "nullif",
    "round",
    "abs",
    "date_trunc",
    "date_part",
    "to_timestamp",
    "now",
    "regexp_replace",
];

/// What other systems call a function, and its name here.
const ELSEWHERE: [(&str, &str); 14] = [
    ("average", "avg"),
    ("mean", "avg"),
    ("len", "length"),
    ("first", "first_value"),
    ("last", "last_value"),
    ("any_value", "first_value"),
    ("ucase", "upper"),
    ("lcase", "lower"),
    ("getdate", "now"),
    ("sysdate", "now"),
    ("charindex", "strpos"),
    ("collect_list", "array_agg"),
    ("group_concat", "string_agg"),
    ("approx_count_distinct", "approx_distinct"),
];

/// The function that was probably meant: what another system's name stands for, else the nearest, common ones first
/// and found by their shortened names (`cnt`), too.
pub fn nearest_function<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let folded_word = folded(word);
    let known: Vec<&str> = known.into_iter().collect();
    if let Some((_, ours)) = ELSEWHERE.iter().find(|(name, _)| folded(name) == folded_word)
        && known.contains(ours)
    {
        return Some((*ours).to_owned());
    }
    let distance_max = (folded_word.chars().count() / 3).max(1);
    let scored = known.into_iter().filter_map(|name| {
        let candidate = folded(name);
        let is_common = COMMON.contains(&name);
        let distance = strsim::damerau_levenshtein(&folded_word, &candidate);
        let near = distance <= distance_max || (is_common && shortens(&folded_word, &candidate));
        near.then_some((distance + usize::from(!is_common), !is_common, !same_first(&folded_word, name), name))
    });
    scored.min().map(|(.., name)| name.to_owned())
}

/// Whether a word is another one with letters left out, not the first: `cnt` for `count`.
fn shortens(word: &str, long: &str) -> bool {
    let mut rest = long.chars();
    word.chars().count() >= 2
        && word.chars().next() == long.chars().next()
        && word.chars().all(|letter| rest.any(|other| other == letter))
}

fn folded(word: &str) -> String {
    word.chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect()
}

/// ` (did you mean 'x'?)`-style help: the nearest candidate, or all of them.
pub(super) fn suggestion<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(word, candidates.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("known are {}", candidates.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_a_stranger_finds_none() {
        let known = ["path", "format", "max_files_per_trigger"];
        assert_eq!(nearest("pth", known).as_deref(), Some("path"));
        assert_eq!(nearest("fromat", known).as_deref(), Some("format"));
        assert_eq!(nearest("maxFilesPerTrigger", known).as_deref(), Some("max_files_per_trigger"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!((nearest("x", []), nearest("x", ["y"])), (None, None));
        assert_eq!(nearest("cat", ["bat", "cut"]).as_deref(), Some("cut"), "a slip seldom hits the first letter");
    }

    #[test]
    fn a_misspelt_function_is_the_common_one() {
        let known = ["avg", "cos", "cot", "count", "first_value", "length", "ln", "max", "now", "sin", "sum", "upper"];
        for (word, meant) in [
            ("cont", Some("count")),
            ("cnt", Some("count")),
            ("cout", Some("count")),
            ("couunt", Some("count")),
            ("sm", Some("sum")),
            ("maxx", Some("max")),
            ("lenght", Some("length")),
            ("uper", Some("upper")),
            ("average", Some("avg")),
            ("LEN", Some("length")),
            ("first", Some("first_value")),
            ("cott", Some("cot")),
            ("percentile", None),
            ("", None),
        ] {
            assert_eq!(nearest_function(word, known).as_deref(), meant, "{word}");
        }
    }
}
