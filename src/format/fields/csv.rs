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

impl Splitter {
    pub fn new(options: &CsvOptions) -> Splitter {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(options.delimiter).terminator(Terminator::Any(b'\n'));
        match options.quote {
            Some(quote) => builder.quote(quote).double_quote(true).escape(options.escape),
            None => builder.quoting(false),
        };
        Splitter {
            reader: builder.build(),
            delimiter: options.delimiter,
            quote: options.quote,
            text: Vec::new(),
            cells: Vec::new(),
        }
    }

    /// The fields of a line, and the text that they stand in.
    ///
    /// # Errors
    /// Where a quote is not closed.
    pub fn split<'s>(&'s mut self, line: &'s [u8]) -> Result<(&'s [u8], &'s [Cell]), String> {
        self.cells.clear();
        // where nothing is quoted a delimiter is one wherever it stands, and found several times as fast
        if self.quote.is_none_or(|quote| memchr::memchr(quote, line).is_none()) {
            let mut start = 0;
            for end in memchr::memchr_iter(self.delimiter, line).chain([line.len()]) {
                self.cells.push(Cell { start, end, quoted: false });
                start = end + 1;
            }
            return Ok((line, &self.cells));
        }
        self.split_quoted(line)
    }

    fn split_quoted(&mut self, line: &[u8]) -> Result<(&[u8], &[Cell]), String> {
        self.reader.reset();
        // what is unescaped is never longer
        self.text.resize(line.len() + 1, 0);
        let (mut read, mut written, mut start) = (0, 0, 0);
        let mut quoted = line.first().copied() == self.quote && self.quote.is_some();
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
                    self.cells.push(Cell { start, end: written, quoted });
                    if record_end {
                        return Ok((&self.text, &self.cells));
                    }
                    start = written;
                    quoted = self.quote.is_some() && line.get(read).copied() == self.quote;
                }
                ReadFieldResult::InputEmpty if ending => return Err("a quote is not closed on its line".to_owned()),
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadFieldResult::End => return Ok((&self.text, &self.cells)),
            }
        }
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
        for before in ["\"open", "a,b,c", ""] {
            splitter.split(before.as_bytes()).map(drop).unwrap_or_default();
        }
        let (text, cells) = splitter.split(line.as_bytes())?;
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
        ] {
            assert_eq!(split(&options(), line).expect(line), fields, "{line}");
        }
        assert_eq!(split(&options(), "a,\"b").expect_err("refused"), "a quote is not closed on its line");
        assert_eq!(split(&options(), "\"").expect_err("refused"), "a quote is not closed on its line");
    }

    proptest::proptest! {
        /// The quick way and the other one split alike.
        #[test]
        fn lines_without_quotes_are_split_as_csv_core_does(line in "[a,;1\\\\ ]{1,20}") {
            let escaped = CsvOptions { escape: Some(b'\\'), ..options() };
            let (mut quick, mut other) = (Splitter::new(&escaped), Splitter::new(&escaped));
            let (text, cells) = quick.split(line.as_bytes()).expect("nothing is quoted");
            let (text_too, cells_too) = other.split_quoted(line.as_bytes()).expect("nothing is quoted");
            let texts = |text: &[u8], cells: &[Cell]| cells.iter().map(|cell| text[cell.start..cell.end].to_vec()).collect::<Vec<_>>();
            proptest::prop_assert_eq!(texts(text, cells), texts(text_too, cells_too));
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
