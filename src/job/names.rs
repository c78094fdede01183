//! Names in errors: the known one that was probably meant.

/// The candidate nearest to a misspelt word, if any is near enough to be what was meant. Case and underscores do
/// not count, so that Spark's `maxFilesPerTrigger` finds `max_files_per_trigger`.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = folded(word);
    let distance_max = (word.chars().count() / 3).max(1);
    let near = |candidate: &'a str| (strsim::damerau_levenshtein(&word, &folded(candidate)), candidate);
    let (distance, best) = candidates.into_iter().map(near).min_by_key(|(distance, _)| *distance)?;
    (distance <= distance_max).then(|| best.to_owned())
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
        assert_eq!(nearest("x", []), None);
    }
}
