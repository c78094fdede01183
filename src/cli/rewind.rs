//! `highwater rewind` and `highwater fork`.

use std::io::Write;

use super::{
    args::{ForkArgs, RewindArgs, Target},
    run::Console,
    streams::{Failure, data},
};
use crate::{
    batch::{self, RewindOptions, RewindReport},
    model::{BatchId, error::printable},
    progress::numbers::count,
    sink::{self, ConsoleFormat},
};

/// No rows are printed; what a console has to say of a retraction is.
const CONSOLE: Console = Console { format: ConsoleFormat::Table, notices: true };

pub fn rewind(args: RewindArgs) -> Result<(), Failure> {
    let to = match args.to {
        Target::Start => None,
        Target::After(batch) => Some(batch),
    };
    let options = RewindOptions {
        to,
        dry_run: args.dry_run,
        replan: args.replan,
        threads: args.threads.count(),
        faults: args.crash.faults(),
    };
    let report = batch::rewind(&args.checkpoint, &options, &mut |spec, mode| {
        Ok(sink::make_sink(spec, mode, || CONSOLE.target(None)))
    })?;
    let mut out = data();
    out.write_all(text(&report, to, args.dry_run).as_bytes())?;
    Ok(out.flush()?)
}

pub fn fork(args: ForkArgs) -> Result<(), Failure> {
    let address = batch::fork(&args.checkpoint, args.at, &args.new, args.set.values())?;
    let mut out = data();
    let (new, old) = (args.new.display().to_string(), args.checkpoint.display().to_string());
    writeln!(out, "{} begins with batch {address} of {}", printable(&new), printable(&old))?;
    writeln!(out, "go on with: highwater run JOB.sql --checkpoint {}, and the job's --set values", printable(&new))?;
    Ok(out.flush()?)
}

fn text(report: &RewindReport, to: Option<BatchId>, dry_run: bool) -> String {
    let RewindReport { from, retracted, invisible, replays, dropped } = report;
    let target = to.map_or_else(|| "the start".to_owned(), |batch| format!("batch {batch}"));
    let Some(from) = from.filter(|_| !retracted.is_empty()) else {
        return match dropped {
            0 => format!("nothing comes after {target}: nothing to retract\n"),
            plans => format!(
                "{}: {} dropped; new input is planned after {target}\n",
                if dry_run { "would be" } else { "done" },
                count(*plans, "waiting plan")
            ),
        };
    };
    let would = if dry_run { "would go" } else { "went" };
    let batches = match retracted.as_slice() {
        [only] => format!("batch {only}"),
        [first, .., last] => format!("{} to {last} ({} batches)", first, retracted.len()),
        [] => String::new(),
    };
    let mut lines = vec![format!("{would} from batch {from} back to {target}"), format!("retracted: {batches}")];
    lines.extend(invisible.iter().map(|sink| format!("invisible: {sink}")));
    lines.push(match replays {
        0 => "next: new input is planned".to_owned(),
        replays => format!("next: {} first, with the same input and times", count(*replays, "retracted plan")),
    });
    printable(&(lines.join("\n") + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchAddress, Generation};

    #[test]
    fn a_rewind_says_what_is_retracted_and_what_comes_next() {
        let address = |batch| BatchAddress { batch: BatchId(batch), generation: Some(Generation(1)) };
        let report = RewindReport {
            from: Some(BatchId(19)),
            retracted: vec![address(18), address(19)],
            invisible: vec!["rows: files in out: rows-00000018.json".into()],
            replays: 2,
            dropped: 0,
        };
        assert_eq!(
            text(&report, Some(BatchId(17)), true),
            "would go from batch 19 back to batch 17\nretracted: 18@1 to 19@1 (2 batches)\ninvisible: rows: files in out: rows-00000018.json\nnext: 2 retracted plans first, with the same input and times\n"
        );
        let mut nothing =
            RewindReport { from: None, retracted: Vec::new(), invisible: Vec::new(), replays: 0, dropped: 0 };
        assert_eq!(text(&nothing, None, false), "nothing comes after the start: nothing to retract\n");
        nothing.dropped = 1;
        assert_eq!(text(&nothing, None, false), "done: 1 waiting plan dropped; new input is planned after the start\n");
    }
}
