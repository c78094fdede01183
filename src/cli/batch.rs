//! `highwater batch`: the baseline.

use std::io::Write;

use super::{
    args::BatchArgs,
    load,
    output::write_tables,
    streams::{Failure, data, say},
};
use crate::{
    batch::{self, clock},
    job::{self, JobSpec},
    model::{Error, Result},
};

pub fn batch(args: &BatchArgs) -> Result<(), Failure> {
    let mut job = load::job(&args.job)?;
    if let Some(query) = &args.query {
        keep_only(&mut job, query)?;
    }
    let tables =
        batch::baseline(&job, args.threads.count(), clock::now_us(), &mut |notice| say(&format!("note: {notice}")))?;
    let mut out = data();
    write_tables(&mut out, args.format.output, &tables, tables.len() > 1)?;
    Ok(out.flush()?)
}

/// Leaves one query in the job, so that no other is computed.
fn keep_only(job: &mut JobSpec, query: &str) -> Result<()> {
    let Some(index) = job.queries.iter().position(|spec| spec.name == query) else {
        let names = || job.queries.iter().map(|spec| spec.name.as_str());
        let error = Error::usage(format!("the job has no query '{query}'"));
        return Err(match job::nearest(query, names()) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help(format!("its queries are: {}", names().collect::<Vec<_>>().join(", "))),
        });
    };
    job.queries = vec![job.queries.swap_remove(index)];
    Ok(())
}
