//! The job that a checkpoint keeps: as it is now, and as it was at a batch.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    checkpoint::History,
    job::{self, CleanSource, JobSpec, Variables},
    model::Result,
};

/// Which of a job's texts: its place among the accepted changes; `None`: the first.
pub(super) type Version = Option<usize>;

/// The job that a checkpoint keeps, its relative paths made what they were.
pub(super) fn kept_job(history: &History) -> Result<JobSpec> {
    parse_kept(history, history.template(), history.variables())
}

/// The job as it was then: filters and projections may have been changed since.
pub(super) fn job_as_of(history: &History, version: Version) -> Result<JobSpec> {
    match version.and_then(|version| history.accepted().get(version)) {
        Some(accepted) => parse_kept(history, &accepted.template, &accepted.variables),
        None => parse_kept(history, &history.genesis().template, &history.genesis().variables),
    }
}

fn parse_kept(history: &History, template: &str, variables: &BTreeMap<String, String>) -> Result<JobSpec> {
    let genesis = history.genesis();
    let variables = Variables::without_secrets(variables.clone());
    let mut spec = job::parse(&genesis.job_file, &genesis.job_name, template, &variables)?;
    make_absolute(&mut spec, &genesis.roots.iter().cloned().collect());
    Ok(spec)
}

/// Replaces relative paths by the absolute ones that they meant when the checkpoint was made.
pub(super) fn make_absolute(job: &mut JobSpec, kept: &BTreeMap<String, PathBuf>) {
    let keep = |name: &str, path: &str| {
        let kept = kept.get(name)?;
        let same = !path.starts_with('/') && kept.ends_with(path.trim_start_matches("./"));
        same.then(|| kept.clone())
    };
    for source in job.sources.iter_mut().chain(&mut job.statics).filter(|source| source.received.is_none()) {
        if let Some(path) = keep(&source.name, &source.files.path) {
            source.files.path = path.to_string_lossy().into_owned();
        }
    }
    for source in &mut job.sources {
        let name = source.archive_name();
        if let Some(CleanSource::Archive(dir)) = &mut source.files.clean_source
            && let Some(kept) = keep(&name, &dir.to_string_lossy())
        {
            *dir = kept;
        }
    }
    for sink in &mut job.sinks {
        for name in [sink.name.clone(), sink.late_name()] {
            if let Some(path) = sink.path_mut(&name)
                && let Some(kept) = keep(&name, &path.to_string_lossy())
            {
                *path = kept;
            }
        }
    }
}

/// The absolute paths that are kept for places which the job's text names as it did before. One that it names anew means what
/// it says now, however much it looks like the old one's end.
pub(super) fn roots_of_same_texts(job: &JobSpec, history: &History) -> Result<BTreeMap<String, PathBuf>> {
    let genesis = history.genesis();
    let variables = Variables::without_secrets(history.variables().clone());
    let before = texts(&mut job::parse(&genesis.job_file, &genesis.job_name, history.template(), &variables)?);
    let now = texts(&mut job.clone());
    let is_same = |name: &String| before.get(name).is_none_or(|text| now.get(name) == Some(text));
    Ok(genesis.roots.iter().filter(|(name, _)| is_same(name)).cloned().collect())
}

/// The paths of a job as they are written, by what they are of.
fn texts(job: &mut JobSpec) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for source in job.sources.iter().chain(&job.statics) {
        texts.insert(source.name.clone(), source.files.path.clone());
        if let Some(CleanSource::Archive(dir)) = &source.files.clean_source {
            texts.insert(source.archive_name(), dir.to_string_lossy().into_owned());
        }
    }
    for sink in &mut job.sinks {
        for name in [sink.name.clone(), sink.late_name()] {
            if let Some(path) = sink.path_mut(&name) {
                texts.insert(name, path.to_string_lossy().into_owned());
            }
        }
    }
    texts
}
