//! The console sink: prints each batch's rows to a writer that the command line gives it.
//!
//! A printed line cannot be taken back or asked for, so a batch may be printed again after a kill. Its text is made when
//! the batch is staged: what cannot be rendered must fail before the commit, or it would fail at every start after it.

use std::{
    fmt,
    io::{self, Write},
};

use super::{Before, Columns, Guarantee, Output, Sink, rows};
use crate::{
    checkpoint::CommitPermit,
    job::RowFormat,
    model::{BatchId, Error, OutputMode, Result, StagedOutput, error::printable},
};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConsoleFormat {
    /// A heading and a table for each batch.
    #[default]
    Table,
    /// One line for each batch: `{"query":"name","batchId":3,"rows":[...]}`.
    Json,
    /// A header once, then the rows; in complete mode, where each batch is a whole result, a header for each.
    Csv,
}

/// Where a console sink prints.
pub struct ConsoleTarget {
    /// Takes rows and nothing else.
    pub rows: Box<dyn Write + Send>,
    /// Takes what else there is to say, a line each.
    pub notices: Box<dyn Write + Send>,
    pub format: ConsoleFormat,
}

impl ConsoleTarget {
    /// Prints nowhere: for a sink that is only asked what it would do.
    pub fn nowhere() -> ConsoleTarget {
        ConsoleTarget {
            rows: Box::new(std::io::sink()),
            notices: Box::new(std::io::sink()),
            format: ConsoleFormat::Json,
        }
    }
}

impl fmt::Debug for ConsoleTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleTarget").field("format", &self.format).finish_non_exhaustive()
    }
}

/// A sink that prints.
#[derive(Debug)]
pub struct ConsoleSink {
    name: String,
    target: ConsoleTarget,
    header_printed: bool,
    /// The text of the batch that is under way.
    staged: Option<(BatchId, Vec<u8>)>,
}

impl ConsoleSink {
    pub fn new(name: &str, target: ConsoleTarget) -> ConsoleSink {
        ConsoleSink { name: name.to_owned(), target, header_printed: false, staged: None }
    }

    fn render(&self, output: &Output<'_>) -> Result<Vec<u8>> {
        match self.target.format {
            ConsoleFormat::Table => {
                let count = output.row_count();
                let rows = if count == 1 { "row" } else { "rows" };
                let mode = output.mode;
                let heading = format!("{}, batch {} ({mode}, {count} {rows})", printable(output.query), output.batch);
                Ok(format!("{heading}\n{}", rows::table(output.schema, output.rows)?).into_bytes())
            }
            ConsoleFormat::Json => {
                let query = serde_json::Value::from(output.query);
                let mut line = format!("{{\"query\":{query},\"batchId\":{},\"rows\":", output.batch).into_bytes();
                line.extend(rows::json_array(output.rows)?);
                line.extend(b"}\n");
                Ok(line)
            }
            ConsoleFormat::Csv => {
                let header = !self.header_printed || output.mode == OutputMode::Complete;
                rows::csv_lines(output.schema, output.rows, header)
            }
        }
    }

    fn cannot_print(&self, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Error::failed(format!("the reader of what '{}' prints is gone", self.name))
                .because("the pipe was closed at its other end")
                .help("run the job again: the batch is committed and will be printed again");
        }
        Error::failed(format!("'{}' cannot print", self.name)).because(error.to_string())
    }
}

impl Sink for ConsoleSink {
    fn description(&self) -> String {
        format!("console[{}]", self.name)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn stages_outside(&self) -> bool {
        false
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        match self.target.format {
            ConsoleFormat::Table => rows::table(columns.schema, &[]).map(drop),
            ConsoleFormat::Json => rows::check(RowFormat::Json, columns.schema),
            ConsoleFormat::Csv => rows::check(RowFormat::Csv, columns.schema)
                .map_err(|error| error.or_help("for the console: run with --output json or --output table")),
        }
    }

    fn check_free(&self) -> Result<()> {
        Ok(())
    }

    fn open(&mut self, _checkpoint_id: &str, _before: &Before, _columns: &Columns<'_>) -> Result<()> {
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        self.staged = Some((output.batch, self.render(output)?));
        Ok(super::nothing_outside(&self.name, output))
    }

    fn publish(&mut self, _permit: &CommitPermit, _staged: &StagedOutput, output: &Output<'_>) -> Result<()> {
        let text = match self.staged.take() {
            Some((batch, text)) if batch == output.batch => text,
            // A batch that another process committed and did not print.
            _ => self.render(output)?,
        };
        let printed = self.target.rows.write_all(&text).and_then(|()| self.target.rows.flush());
        printed.map_err(|error| self.cannot_print(&error))?;
        self.header_printed = true;
        Ok(())
    }

    fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }

    fn retract(&mut self, _permit: &CommitPermit, keep: Option<BatchId>, _latest: Option<&Output<'_>>) -> Result<()> {
        let which = keep.map_or_else(|| "every batch".to_owned(), |keep| format!("the batches after {keep}"));
        let notice = format!("{}: what was printed for {which} is retracted\n", printable(&self.name));
        let printed = self.target.notices.write_all(notice.as_bytes()).and_then(|()| self.target.notices.flush());
        printed.map_err(|error| self.cannot_print(&error))
    }

    fn verify(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read_back(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        Err(Error::usage(format!("'{}' was printed and is kept nowhere", self.name))
            .because("a console cannot be asked what it printed")
            .help("give the query a memory or files sink"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use datafusion::arrow::{
        array::{ArrayRef, Int64Array, ListArray, StringArray},
        datatypes::Int64Type,
        record_batch::RecordBatch,
    };

    use super::*;
    use crate::model::ErrorKind;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Paper {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn rows() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("dstdevice", Arc::new(StringArray::from(vec!["Comp1", "Comp2"])) as ArrayRef),
            ("count", Arc::new(Int64Array::from(vec![2, 1]))),
        ])
        .unwrap()
    }

    /// Prints two rows and then none.
    fn printed(format: ConsoleFormat, mode: OutputMode) -> String {
        let paper = Paper::default();
        let target = ConsoleTarget { rows: Box::new(paper.clone()), notices: Box::new(Paper::default()), format };
        let mut sink = ConsoleSink::new("counts", target);
        let batch = rows();
        for (number, rows) in [(3, std::slice::from_ref(&batch)), (4, &[])] {
            let output = Output { query: "counts", batch: BatchId(number), mode, schema: &batch.schema(), rows };
            let staged = sink.stage(&output).unwrap();
            assert_eq!((staged.rows, staged.name.as_str()), (output.row_count(), ""));
            sink.publish(&CommitPermit::for_test(), &staged, &output).unwrap();
        }
        paper.text()
    }

    #[test]
    fn json_is_one_line_per_batch() {
        assert_eq!(
            printed(ConsoleFormat::Json, OutputMode::Update),
            "{\"query\":\"counts\",\"batchId\":3,\"rows\":[{\"dstdevice\":\"Comp1\",\"count\":2},{\"dstdevice\":\"Comp2\",\"count\":1}]}\n\
             {\"query\":\"counts\",\"batchId\":4,\"rows\":[]}\n"
        );
    }

    #[test]
    fn csv_has_one_header_unless_each_batch_is_whole() {
        assert_eq!(printed(ConsoleFormat::Csv, OutputMode::Append), "dstdevice,count\nComp1,2\nComp2,1\n");
        assert_eq!(
            printed(ConsoleFormat::Csv, OutputMode::Complete),
            "dstdevice,count\nComp1,2\nComp2,1\ndstdevice,count\n"
        );
    }

    #[test]
    fn a_table_has_a_heading() {
        let text = printed(ConsoleFormat::Table, OutputMode::Complete);
        assert!(
            text.starts_with("counts, batch 3 (complete, 2 rows)\n+-----------+-------+\n| dstdevice | count |\n"),
            "{text}"
        );
        assert!(text.contains("\ncounts, batch 4 (complete, 0 rows)\n"), "{text}");
    }

    /// A list has no CSV field: found when it was printed, after the commit, it would be found again at every start.
    #[test]
    fn what_cannot_be_printed_is_refused_before_the_commit() {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
        let batch = RecordBatch::try_from_iter([("all", Arc::new(list) as ArrayRef)]).unwrap();
        let output = Output {
            query: "q",
            batch: BatchId(0),
            mode: OutputMode::Append,
            schema: &batch.schema(),
            rows: std::slice::from_ref(&batch),
        };
        for format in [ConsoleFormat::Table, ConsoleFormat::Json, ConsoleFormat::Csv] {
            let target = ConsoleTarget { rows: Box::new(io::sink()), notices: Box::new(io::sink()), format };
            let mut sink = ConsoleSink::new("q", target);
            let csv = format == ConsoleFormat::Csv;
            assert_eq!(sink.accepts(&output.schema.into()).is_err(), csv, "{format:?}");
            assert_eq!(sink.stage(&output).is_err(), csv, "{format:?}");
        }
    }

    #[test]
    fn a_rewind_is_told_beside_the_rows() {
        let (paper, notices) = (Paper::default(), Paper::default());
        let target = ConsoleTarget {
            rows: Box::new(paper.clone()),
            notices: Box::new(notices.clone()),
            format: ConsoleFormat::Json,
        };
        let mut sink = ConsoleSink::new("counts", target);
        sink.retract(&CommitPermit::for_test(), Some(BatchId(3)), None).unwrap();
        sink.retract(&CommitPermit::for_test(), None, None).unwrap();
        assert_eq!(paper.text(), "");
        assert_eq!(
            notices.text(),
            "counts: what was printed for the batches after 3 is retracted\n\
             counts: what was printed for every batch is retracted\n"
        );
        assert_eq!(sink.read_back(&[]).unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_reader_that_went_away_is_named() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let target =
            ConsoleTarget { rows: Box::new(Closed), notices: Box::new(Closed), format: ConsoleFormat::default() };
        let mut sink = ConsoleSink::new("counts", target);
        let batch = rows();
        let output = Output {
            query: "counts",
            batch: BatchId(0),
            mode: OutputMode::Append,
            schema: &batch.schema(),
            rows: std::slice::from_ref(&batch),
        };
        let staged = sink.stage(&output).unwrap();
        let error = sink.publish(&CommitPermit::for_test(), &staged, &output).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert_eq!(error.what(), "the reader of what 'counts' prints is gone");
    }
}
