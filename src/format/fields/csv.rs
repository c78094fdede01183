//! One line of CSV, split by `csv-core`.

use csv_core::{ReadFieldResult, Reader, ReaderBuilder, Terminator};

use crate::job::CsvOptions;

/// One field: where its text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub start: usize,
    pub end: usize,
    /// So that it is text even where it looks like a null.
    pub quoted: bool,
}

/// Splits lines, one after the other.
#[derive(Debug)]
pub(super) struct Splitter {
    reader: Reader,
    delimiter: u8,
    quote: Option<u8>,
    /// The fields' text, one behind the other.
    text: Vec<u8>,
    cells: Vec<Cell>,
}

/// A line that was split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Split<'s> {
    pub text: &'s [u8],
    /// The first fields, as many as were asked for.
    pub cells: &'s [Cell],
    /// Of all fields.
    pub count: usize,
}

impl Splitter {
    pub fn new(options: &CsvOptions) -> Splitter {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(options.delimiter).terminator(Terminator::Any(b'\n'));
        match options.quote {
            Some(quote) => builder.quote(quote).double_quote(true).escape(options.escape),
            None => builder.quoting(false),
        };
        let mut splitter = Splitter {
            reader: builder.build(),
            delimiter: options.delimiter,
            quote: options.quote,
            text: Vec::new(),
            cells: Vec::new(),
        };
        splitter.begin_anew();
        splitter
    }

    /// The fields of a line, and the text that they stand in; the places of at most `wanted` of them are kept.
    ///
    /// # Errors
    /// Where a quote is not closed.
    pub fn split<'s>(&'s mut self, line: &'s [u8], wanted: usize) -> Result<Split<'s>, String> {
        // where nothing is quoted a delimiter is one wherever it stands, and found several times as fast
        if self.quote.is_some_and(|quote| memchr::memchr(quote, line).is_some()) {
            return self.split_quoted(line, wanted);
        }
        self.cells.clear();
        let (mut start, mut count) = (0, 0);
        for end in memchr::memchr_iter(self.delimiter, line).chain([line.len()]) {
            if count < wanted {
                self.cells.push(Cell { start, end, quoted: false });
            }
            (start, count) = (end + 1, count + 1);
        }
        Ok(Split { text: line, cells: &self.cells, count })
    }

    fn split_quoted(&mut self, line: &[u8], wanted: usize) -> Result<Split<'_>, String> {
        self.cells.clear();
        // what is unescaped is never longer
        self.text.resize(line.len() + 1, 0);
        let (mut read, mut written, mut start, mut count) = (0, 0, 0, 0);
        let quote = self.quote;
        let is_quote = |at: usize| quote.is_some() && line.get(at).copied() == quote;
        let mut quoted = is_quote(0);
        loop {
            // the line's end is given by itself: inside of quotes it is text like any other, and then the field goes on
            let ending = read == line.len();
            let input = if ending { &b"\n"[..] } else { &line[read..] };
            let (result, taken, put) = self.reader.read_field(input, &mut self.text[written..]);
            written += put;
            if !ending {
                read += taken;
            }
            match result {
                ReadFieldResult::Field { record_end } => {
                    if count < wanted {
                        self.cells.push(Cell { start, end: written, quoted });
                    }
                    count += 1;
                    if record_end {
                        return Ok(Split { text: &self.text, cells: &self.cells, count });
                    }
                    start = written;
                    quoted = is_quote(read);
                }
                ReadFieldResult::InputEmpty if ending => {
                    self.begin_anew();
                    return Err("a quote is not closed on its line".to_owned());
                }
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadFieldResult::End => return Ok(Split { text: &self.text, cells: &self.cells, count }),
            }
        }
    }

    /// Makes `csv-core` forget the quote that is open, and take no line for the first of a file, of which it would leave
    /// out a byte order mark.
    fn begin_anew(&mut self) {
        self.reader.reset();
        self.reader.read_field(b"x\n", &mut [0; 4]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ValueOptions;

    fn options() -> CsvOptions {
        CsvOptions { header: false, delimiter: b',', quote: Some(b'"'), escape: None, values: ValueOptions::default() }
    }

    /// Quoted fields are told by a `"` before them.
    fn split(options: &CsvOptions, line: &str) -> Result<Vec<String>, String> {
        let mut splitter = Splitter::new(options);
        // what was split before leaves nothing behind
        let quote = options.quote.map_or('"', char::from);
        for before in [format!("{quote}open"), format!("a{0}{quote}b{quote}", char::from(options.delimiter))] {
            let open = options.quote.is_some() && before.contains("open");
            assert_eq!(splitter.split(before.as_bytes(), 9).is_err(), open);
        }
        let Split { text, cells, .. } = splitter.split(line.as_bytes(), usize::MAX)?;
        let shown = |cell: &Cell| {
            let field = std::str::from_utf8(&text[cell.start..cell.end]).expect("it is text");
            format!("{}{field}", if cell.quoted { "\"" } else { "" })
        };
        Ok(cells.iter().map(shown).collect())
    }

    #[test]
    fn lines_are_split() {
        for (line, fields) in [
            ("a,b,c", &["a", "b", "c"][..]),
            ("a,,c", &["a", "", "c"]),
            (",", &["", ""]),
            ("a,\"\",\"b,\"\"c\"\"\"", &["a", "\"", "\"b,\"c\""]),
            ("\"a\"", &["\"a"]),
            ("a\"b", &["a\"b"]),
            ("é,\u{1D11E}", &["é", "\u{1D11E}"]),
            ("a,", &["a", ""]),
            (" a , b ", &[" a ", " b "]),
            // a mark is text, whatever else is quoted
            ("\u{FEFF}a,b", &["\u{FEFF}a", "b"]),
            ("\u{FEFF}a,\"b\"", &["\u{FEFF}a", "\"b"]),
        ] {
            assert_eq!(split(&options(), line).expect(line), fields, "{line}");
        }
        assert_eq!(split(&options(), "a,\"b").expect_err("refused"), "a quote is not closed on its line");
        assert_eq!(split(&options(), "\"").expect_err("refused"), "a quote is not closed on its line");
    }

    proptest::proptest! {
        /// The quick way and the other one split alike.
        #[test]
        fn lines_without_quotes_are_split_as_csv_core_does(line in "[a,;1\\\\ \u{FEFF}]{1,20}") {
            let escaped = CsvOptions { escape: Some(b'\\'), ..options() };
            let (mut quick, mut other) = (Splitter::new(&escaped), Splitter::new(&escaped));
            let one = quick.split(line.as_bytes(), usize::MAX).expect("nothing is quoted");
            let two = other.split_quoted(line.as_bytes(), usize::MAX).expect("nothing is quoted");
            let texts = |split: &Split<'_>| {
                split.cells.iter().map(|cell| split.text[cell.start..cell.end].to_vec()).collect::<Vec<_>>()
            };
            proptest::prop_assert_eq!((texts(&one), one.count), (texts(&two), two.count));
        }
    }

    /// A line of nothing but delimiters is counted, not kept.
    #[test]
    fn no_more_fields_are_kept_than_are_wanted() {
        let mut splitter = Splitter::new(&options());
        for line in [",".repeat(1000), format!("\"\"{}", ",".repeat(1000))] {
            let split = splitter.split(line.as_bytes(), 3).expect("it is split");
            assert_eq!((split.cells.len(), split.count), (3, 1001));
        }
    }

    #[test]
    fn delimiters_quotes_and_escapes_are_chosen() {
        let other = CsvOptions { delimiter: b'\t', quote: Some(b'\''), escape: Some(b'\\'), ..options() };
        assert_eq!(split(&other, "a,b\t'c\\'d'\t\"").expect("it is split"), ["a,b", "\"c'd", "\""]);
        let none = CsvOptions { quote: None, ..options() };
        assert_eq!(split(&none, "\"a,b\"").expect("it is split"), ["\"a", "b\""]);
    }
}
