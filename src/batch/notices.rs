//! What the operator is told of input that is not read.

use crate::{
    model::Notice,
    source::{Change, Next},
};

/// Removed files that are named one by one: input that is archived once it was read would fill the terminal.
const GONE_NAMED_MAX: usize = 10;

/// What was not read, and why; each is told once.
pub(super) fn tell(source: &str, next: &Next, notice: &mut dyn FnMut(Notice)) {
    let mut warn = |text: String| notice(text.into());
    let mut gone = Vec::new();
    for changed in &next.changed {
        match changed.change {
            Change::Modified { size_bytes_before, size_bytes_now } => warn(format!(
                "source '{source}': {} was changed after it was committed ({size_bytes_before} bytes then, {size_bytes_now} now); it is not read again: give new rows a new file",
                changed.identity
            )),
            Change::Gone => gone.push(changed.identity.to_string()),
        }
    }
    match gone.as_slice() {
        [] => {}
        few if few.len() <= GONE_NAMED_MAX => few.iter().for_each(|file| {
            warn(format!("source '{source}': {file} was removed after it was committed; its rows stay counted"));
        }),
        many => warn(format!(
            "source '{source}': {} and {} more files were removed after they were committed; their rows stay counted",
            many[..GONE_NAMED_MAX].join(", "),
            many.len() - GONE_NAMED_MAX
        )),
    }
    for skipped in &next.skipped {
        warn(format!("source '{source}': {} is not read: {}", skipped.path, skipped.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::InputPath, source::Changed};

    #[test]
    fn archived_input_is_one_notice() {
        let gone = |count: u8| {
            let names = (0..count).map(|number| InputPath(vec![b'a' + number]));
            let changed = names.map(|identity| Changed { identity, change: Change::Gone }).collect();
            let mut told = Vec::new();
            tell("s", &Next { changed, ..Next::default() }, &mut |notice| told.push(notice.text));
            told
        };
        assert_eq!(gone(0), Vec::<String>::new());
        assert_eq!(gone(10).len(), 10);
        let told = gone(20);
        assert!(told.len() == 1 && told[0].contains("i, j and 10 more files were removed"), "{told:?}");
    }
}
