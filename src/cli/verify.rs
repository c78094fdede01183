//! `highwater verify`.

use std::io::{self, IsTerminal, Write};

use indicatif::ProgressBar;

use super::{
    args::VerifyArgs,
    streams::{Failure, data},
};
use crate::{
    batch::{self, VerifyOptions, VerifyReport},
    model::{Error, Place, error::printable},
    progress::numbers::count,
};

pub fn verify(args: &VerifyArgs) -> Result<(), Failure> {
    let options = VerifyOptions { batch: args.batch, every: args.every, threads: args.threads.count() };
    let spinner = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let report = batch::verify(&args.checkpoint, &options, &mut |batch| spinner.set_message(format!("batch {batch}")));
    spinner.finish_and_clear();
    let report = report?;
    let mut out = data();
    out.write_all(text(&report).as_bytes())?;
    out.flush()?;
    if let Some(first) = report.findings.first() {
        return Err(not_sound(args, &report, first).into());
    }
    report.not_compared.map_or(Ok(()), |error| {
        Err(error
            .or_help("without --batch, `highwater verify` checks the records, the state and the sinks alone")
            .into())
    })
}

fn not_sound(args: &VerifyArgs, report: &VerifyReport, first: &str) -> Error {
    Error::refused(format!("the checkpoint does not verify: {}", count(report.findings.len() as u64, "finding")))
        .at(Place::Path(args.checkpoint.clone()))
        .because(first)
        .help("of a damaged log the next run goes on from the newest sound batch, or says why it cannot; output that is wrong is written again by a rewind to before the batch that is named, and a run")
}

fn text(report: &VerifyReport) -> String {
    let VerifyReport { findings, notes, not_compared, batches_checked, results_compared } = report;
    let mut lines: Vec<String> = notes.iter().map(|note| format!("note: {note}")).collect();
    lines.extend(findings.iter().map(|finding| format!("finding: {finding}")));
    let batches = if *batches_checked == 1 { "1 batch".to_owned() } else { format!("{batches_checked} batches") };
    let compared = match results_compared {
        0 => String::new(),
        results => format!(", {} compared with the batch", count(*results, "result")),
    };
    let verdict = match (findings.is_empty(), not_compared) {
        (true, None) => "all good",
        (true, Some(_)) => "good as far as checked",
        (false, _) => "NOT good",
    };
    let uncompared = match (not_compared, results_compared) {
        (None, _) => "",
        (Some(_), 0) => ", nothing compared with the batch",
        (Some(_), _) => "; from some batch on the input is gone",
    };
    lines.push(format!("{verdict}: {batches} checked{compared}{uncompared}\n"));
    printable(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_last_line() {
        let mut report = VerifyReport { batches_checked: 50, results_compared: 1, ..VerifyReport::default() };
        assert_eq!(text(&report), "all good: 50 batches checked, 1 result compared with the batch\n");
        report.results_compared = 0;
        report.not_compared = Some(Error::failed("an input file is gone"));
        assert_eq!(text(&report), "good as far as checked: 50 batches checked, nothing compared with the batch\n");
        report.not_compared = None;
        report.findings.push("batch 3: the delta is damaged".into());
        assert_eq!(text(&report), "finding: batch 3: the delta is damaged\nNOT good: 50 batches checked\n");
    }
}
