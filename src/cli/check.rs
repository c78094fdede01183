//! `highwater check` and `highwater explain`: what a job would do.

use std::io::Write;

use super::{
    args::JobArgs,
    load,
    streams::{Failure, data},
};
use crate::{
    batch::{self, QueryCheck},
    model::error::printable,
    sink::{self, ConsoleTarget, Guarantee},
};

pub fn check(args: &JobArgs) -> Result<(), Failure> {
    let job = load::job(args)?;
    let checks = batch::check(&job, &mut |spec, mode| Ok(sink::make_sink(spec, mode, ConsoleTarget::nowhere)))?;
    let mut out = data();
    for check in &checks {
        out.write_all(describe(check).as_bytes())?;
    }
    Ok(out.flush()?)
}

pub fn explain(args: &JobArgs) -> Result<(), Failure> {
    let text = batch::explain(&load::job(args)?)?;
    let mut out = data();
    out.write_all(printable(&text).as_bytes())?;
    Ok(out.flush()?)
}

fn describe(check: &QueryCheck) -> String {
    let guarantee = match check.guarantee {
        Guarantee::ExactlyOnce => "exactly once",
        Guarantee::AtLeastOnce => "at least once: a batch may come again after a kill, with the same rows",
    };
    let mode = check.mode.to_string();
    let mut lines = vec![
        ("incremental", check.incremental.as_str()),
        ("state", &check.state),
        ("output mode", &mode),
        ("sink", &check.sink),
        ("guarantee", guarantee),
    ];
    lines.extend(check.notes.iter().map(|note| ("note", note.as_str())));
    let mut text = format!("query {}\n", check.name);
    for (what, value) in lines {
        text += &format!("  {what:<12} {value}\n");
    }
    printable(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OutputMode;

    #[test]
    fn a_query_is_described_line_by_line() {
        let text = describe(&QueryCheck {
            name: "counts".into(),
            sink: "memory[counts]".into(),
            mode: OutputMode::Complete,
            guarantee: Guarantee::ExactlyOnce,
            incremental: "partial aggregation".into(),
            state: "one row per group".into(),
            notes: vec!["source 'flows': 50 files".into()],
        });
        assert_eq!(
            text,
            "query counts\n  incremental  partial aggregation\n  state        one row per group\n  output mode  complete\n  sink         memory[counts]\n  guarantee    exactly once\n  note         source 'flows': 50 files\n"
        );
    }
}
