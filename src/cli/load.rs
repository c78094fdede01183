//! What a command works on: a job file with what `--set` and the environment fill in, or a checkpoint.

use std::{io, path::Path};

use super::{
    args::{JobArgs, SetArgs},
    streams::say,
};
use crate::{
    batch::View,
    job::{self, JobSpec, Variables},
    model::{Error, Place, Result},
};

/// Reads the job that the command line names.
///
/// # Errors
/// Of kind `Usage`: there is no such file, it is not text, or it is no job.
pub fn job(args: &JobArgs) -> Result<JobSpec> {
    let template = text(&args.job)?;
    let name = args.job.file_stem().unwrap_or(args.job.as_os_str()).to_string_lossy();
    parse(&args.job.to_string_lossy(), &name, &template, &args.set)
}

/// Opens a checkpoint to read it. What of it is lost is said on stderr, so that nobody takes an older result for the
/// newest.
///
/// # Errors
/// As [`View::open`].
pub fn view(checkpoint: &Path) -> Result<View> {
    let view = View::open(checkpoint)?;
    view.warnings().iter().for_each(|warning| say(&format!("warning: {warning}")));
    Ok(view)
}

fn parse(file: &str, name: &str, template: &str, set: &SetArgs) -> Result<JobSpec> {
    let variables = Variables::new(set.values());
    let job = job::parse(file, name, template, &variables)?;
    variables.check_all_used(&job)?;
    Ok(job)
}

fn text(path: &Path) -> Result<String> {
    let place = || Place::Path(path.to_owned());
    let cannot = Error::usage("the job file cannot be read").at(place());
    let bytes = std::fs::read(path).map_err(|cause| {
        let error = cannot.because(cause.to_string());
        match cause.kind() {
            io::ErrorKind::NotFound => error.help("check the path; it is relative to the current folder"),
            io::ErrorKind::IsADirectory => error.help("name the .sql file itself"),
            _ => error,
        }
    })?;
    String::from_utf8(bytes).map_err(|cause| {
        Error::usage("the job file is not UTF-8 text")
            .at(place())
            .because(format!("byte {} begins no character", cause.utf8_error().valid_up_to()))
            .help("save it as UTF-8")
    })
}

/// `NAME=VALUE`; the value may be empty and hold more equals signs.
pub fn parse_setting(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ErrorKind;

    const JOB: &str =
        "CREATE TABLE a (x BIGINT) WITH (connector = 'files', path = '${INPUT}', format = 'json');\nSELECT x FROM a;\n";

    fn args(path: &Path, settings: &[(&str, &str)]) -> JobArgs {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        JobArgs { job: path.to_owned(), set: SetArgs { settings } }
    }

    #[test]
    fn a_job_is_named_after_its_file_and_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.servers.sql");
        std::fs::write(&path, JOB).unwrap();
        let job = job(&args(&path, &[("INPUT", "flows")])).unwrap();
        assert_eq!((job.name.as_str(), job.sources[0].files.path.as_str()), ("web.servers", "flows"));
    }

    #[test]
    fn a_wrong_name_a_missing_file_and_bytes_are_usage_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("job.sql");
        let error = job(&args(&path, &[])).unwrap_err();
        assert_eq!((error.kind(), error.what()), (ErrorKind::Usage, "the job file cannot be read"));
        std::fs::write(&path, JOB).unwrap();
        let error = job(&args(&path, &[("INPUT", "flows"), ("INPT", "x")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().contains("did you mean --set INPUT"), "{error}");
        std::fs::write(&path, b"SELECT '\xff'").unwrap();
        let error = job(&args(&path, &[])).unwrap_err();
        assert_eq!((error.kind(), error.why()), (ErrorKind::Usage, Some("byte 8 begins no character")));
    }
}
