//! Numbers and times as people read them.

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`, `10,000 files`, `2 files or segments`.
pub fn count(number: u64, noun: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { noun.to_owned() } else { plural(noun) })
}

/// `files`, `files or segments`.
pub fn plural(noun: &str) -> String {
    noun.split(" or ").map(|noun| format!("{noun}s")).collect::<Vec<_>>().join(" or ")
}

/// `84745.8` as `84.7k`.
pub fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.1}G", number / 1e9),
        1e6.. => format!("{:.1}M", number / 1e6),
        1e3.. => format!("{:.1}k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_shortened() {
        let texts = [0, 7, 999, 1000, 10_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "7", "999", "1,000", "10,000", "1,234,567"]);
        assert_eq!([0, 1, 1000].map(|n| count(n, "file")), ["0 files", "1 file", "1,000 files"]);
        assert_eq!([1, 2].map(|n| count(n, "file or segment")), ["1 file or segment", "2 files or segments"]);
        let texts = [0.0, 847.4, 84_745.8, 1_250_000.0, 2e9].map(short);
        assert_eq!(texts, ["0", "847", "84.7k", "1.2M", "2.0G"]);
    }
}
