//! `highwater verify`.

use std::io::{self, IsTerminal, Write};

use indicatif::ProgressBar;

use super::{
    args::VerifyArgs,
    numbers::count,
    streams::{Failure, data},
};
use crate::{
    batch::{self, VerifyOptions, VerifyReport},
    model::{Error, Place, error::printable},
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
    if report.findings.is_empty() {
        return Ok(());
    }
    let error =
        Error::refused(format!("the checkpoint does not verify: {}", count(report.findings.len() as u64, "finding")))
            .at(Place::Path(args.checkpoint.clone()))
            .because(report.findings[0].clone())
            .help("rewind to a batch before it, or start a new checkpoint; what is damaged is left as it is");
    Err(error.into())
}

fn text(report: &VerifyReport) -> String {
    let VerifyReport { findings, notes, batches_checked, results_compared } = report;
    let mut lines: Vec<String> = notes.iter().map(|note| format!("note: {note}")).collect();
    lines.extend(findings.iter().map(|finding| format!("finding: {finding}")));
    let batches = if *batches_checked == 1 { "1 batch".to_owned() } else { format!("{batches_checked} batches") };
    let compared = match results_compared {
        0 => String::new(),
        results => format!(", {} compared with the batch", count(*results, "result")),
    };
    // Where nothing was compared and a note says why, nobody may read that all was.
    let uncompared = *results_compared == 0 && !notes.is_empty();
    let verdict = match (findings.is_empty(), uncompared) {
        (true, false) => "all good",
        (true, true) => "good as far as checked (see the notes)",
        (false, _) => "NOT good",
    };
    lines.push(format!("{verdict}: {batches} checked{compared}\n"));
    printable(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_the_last_line() {
        let mut report =
            VerifyReport { findings: Vec::new(), notes: Vec::new(), batches_checked: 50, results_compared: 1 };
        assert_eq!(text(&report), "all good: 50 batches checked, 1 result compared with the batch\n");
        report.results_compared = 0;
        report.notes.push("the input cannot be read again".into());
        let told = "note: the input cannot be read again\ngood as far as checked (see the notes): 50 batches checked\n";
        assert_eq!(text(&report), told);
        report.notes.clear();
        report.findings.push("batch 3: the delta is damaged".into());
        assert_eq!(text(&report), "finding: batch 3: the delta is damaged\nNOT good: 50 batches checked\n");
    }
}
