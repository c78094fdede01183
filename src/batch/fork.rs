//! Fork: a new checkpoint that begins with one batch of another: its state, its position, its rows.

use std::{collections::BTreeMap, path::Path};

use super::{clock::now_us, clock::unique_id, engine::genesis, one_batch::whole_state, restore, statics, view::View};
use crate::{
    checkpoint::{Checkpoint, OpenOptions, Payload, PayloadKind},
    job::{self, JobSpec, PlaceKind, SinkConnector, SinkSpec, Variables, fingerprint},
    model::{BatchAddress, Error, Faults, Result},
    query::JobQueries,
    state,
};

/// Makes a checkpoint in `new_dir` that goes on from batch `at` of the one in `dir`. `set` gives variables of the job new
/// values: a sink outside the checkpoint must get a place of its own.
///
/// # Errors
/// Of kind `Refused`, where both would write to the same place, or the new values change what the state is of.
pub fn fork(dir: &Path, at: BatchAddress, new_dir: &Path, set: BTreeMap<String, String>) -> Result<BatchAddress> {
    let view = View::open(dir)?;
    let at = view.resolve(Some(at))?;
    let job = new_job(&view, set)?;
    let mut queries = statics::plan(&job, 1, &mut |notice| tracing::warn!("{notice}"))?;
    let differences = fingerprint::differences(view.reader.history().identities(), &queries.identities());
    fingerprint::refuse(&differences, false)?;
    let steps = view.reader.restore_steps(at)?;
    restore::restore(&mut queries, &steps, &|payload| view.reader.read_payload(payload))?;
    let payloads = payloads(&view, &queries, at)?;
    let genesis = genesis(&job, &queries, unique_id(), now_us())?;
    let options = OpenOptions { faults: Faults::none(), settings: job.settings.clone() };
    Checkpoint::fork(&view.reader, at, new_dir, genesis, payloads, options)?.close()?;
    Ok(at)
}

fn new_job(view: &View, set: BTreeMap<String, String>) -> Result<JobSpec> {
    let history = view.reader.history();
    let mut given = history.variables().clone();
    given.extend(set);
    let old = view.job();
    let mut new = job::parse(&old.file, &old.name, history.template(), &Variables::new(given))?;
    super::kept_job::make_absolute(&mut new, &history.genesis().roots.iter().cloned().collect());
    for (ours, theirs) in new.sinks.iter().zip(&old.sinks) {
        refuse_shared(ours, theirs)?;
    }
    Ok(new)
}

/// Two checkpoints that go on apart must not publish to one place, nor tell one program the same batches twice.
fn refuse_shared(ours: &SinkSpec, theirs: &SinkSpec) -> Result<()> {
    let theirs_too = theirs.places();
    if let Some(place) = ours.places().iter().find(|place| theirs_too.contains(place)) {
        let of_sink = if place.name == theirs.late_name() { "late rows of sink" } else { "sink" };
        let (shared, help) = match place.kind {
            PlaceKind::Folder(_) => (
                format!("its folder is {}", place.path.display()),
                "give the fork a folder of its own: write the path as ${NAME} in the job, and --set NAME=FOLDER here",
            ),
            PlaceKind::Table(table) => (
                format!("its table is '{table}' in {}", place.path.display()),
                "give the fork a database or a table of its own: write the path or the table as ${NAME} in the job, and --set NAME=VALUE here",
            ),
        };
        return Err(Error::refused(format!("both checkpoints would write {of_sink} '{}'", theirs.name))
            .because(shared)
            .help(help));
    }
    if ours.connector.shares_server(&theirs.connector) {
        return Err(Error::refused(format!("both checkpoints would write sink '{}'", theirs.name))
            .because(format!("its place is {}", theirs.connector.server_shown().unwrap_or_default()))
            .help(
                "give the fork a place of its own: write what differs as ${NAME} in the job, and --set NAME=VALUE here",
            ));
    }
    match (&ours.connector, &theirs.connector) {
        (SinkConnector::Command(command), SinkConnector::Command(before)) if command.shell == before.shell => {
            Err(Error::refused(format!("both checkpoints would run the program of sink '{}'", theirs.name))
                .because("it would be told two stories under the same numbers of batches")
                .help("give the fork a command of its own: write what differs as ${NAME} in the job, and --set NAME=VALUE here"))
        }
        _ => Ok(()),
    }
}

/// The state, whole, and all rows that append queries gave out so far.
fn payloads(view: &View, queries: &JobQueries, at: BatchAddress) -> Result<Vec<Payload>> {
    let mut payloads = Vec::new();
    for (index, query) in queries.queries.iter().enumerate() {
        let name = query.name().to_owned();
        payloads.extend(whole_state(query)?);
        let connector = &view.job().sinks[view.job().queries[index].sink].connector;
        if query.gives_out_for_good() && !matches!(connector, SinkConnector::Files { .. }) {
            let table = view.result(&name, at)?;
            let bytes = state::encode(query.output_schema(), &table.rows)?;
            payloads.push(Payload { query: name, kind: PayloadKind::Rows, bytes });
        }
    }
    Ok(payloads)
}
