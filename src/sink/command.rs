//! The command sink: a program that is run for each batch after its commit, with the rows on its standard input.
//!
//! What it does cannot be taken back or asked for, so after a kill, or where it failed, it is run again with the same rows: at
//! least once. Its input is a file without a name, not a pipe: it sees a batch whole or not at all, whenever Highwater is
//! killed, and may leave it unread.

use std::{
    fmt,
    fs::File,
    io::{Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitStatus, Stdio},
};

use super::{Before, Columns, Guarantee, Output, Sink, nothing_outside, rows};
use crate::{
    checkpoint::CommitPermit,
    job::CommandSpec,
    model::{BatchId, Error, Place, Result, StagedOutput, UI_TOKEN_VARIABLE, error::printable},
};

/// So much of a command is shown where sinks are listed.
const SHOWN_CHARS_MAX: usize = 60;

/// What a shell exits with where there is no such program.
const NOT_FOUND: i32 = 127;

/// A sink that runs a program.
pub struct CommandSink {
    name: String,
    command: CommandSpec,
    /// Takes what there is to say of a rewind, a line each.
    notices: Box<dyn Write + Send>,
    checkpoint: String,
    /// The input for the batch that is under way.
    staged: Option<(BatchId, Vec<u8>)>,
}

impl fmt::Debug for CommandSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSink").field("name", &self.name).field("command", &self.command).finish_non_exhaustive()
    }
}

impl CommandSink {
    /// Runs nothing yet.
    pub fn new(name: &str, command: &CommandSpec, notices: Box<dyn Write + Send>) -> CommandSink {
        let (name, command) = (name.to_owned(), command.clone());
        CommandSink { name, command, notices, checkpoint: String::new(), staged: None }
    }

    /// The command as it stands in the job, secrets by name only, on one line and cut off.
    fn shown(&self) -> String {
        let line = printable(&self.command.shell).replace(['\n', '\t'], " ");
        match line.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }

    fn render(&self, output: &Output<'_>) -> Result<Vec<u8>> {
        rows::to_bytes(self.command.format, output.schema, output.rows)
    }

    /// What the program is told beside the rows.
    fn environment(&self, output: &Output<'_>) -> [(&'static str, String); 6] {
        [
            ("HIGHWATER_BATCH", output.batch.to_string()),
            ("HIGHWATER_QUERY", output.query.to_owned()),
            ("HIGHWATER_SINK", self.name.clone()),
            ("HIGHWATER_MODE", output.mode.to_string()),
            ("HIGHWATER_ROWS", output.row_count().to_string()),
            ("HIGHWATER_CHECKPOINT", self.checkpoint.clone()),
        ]
    }

    fn program(&self, output: &Output<'_>) -> Command {
        // the outer shell only puts stdout where stderr goes: our own stdout is for data
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec /bin/sh -c \"$0\" >&2", &self.command.shell]).envs(self.environment(output));
        // the page's token is nobody's business, but of a command that asks for it
        if !self.command.secrets.iter().any(|secret| secret == UI_TOKEN_VARIABLE) {
            command.env_remove(UI_TOKEN_VARIABLE);
        }
        // in a group of its own: an interrupt from the keyboard is for Highwater, which finishes the batch and stops
        command.process_group(0);
        command
    }

    fn failed(&self, batch: BatchId, why: String) -> Error {
        Error::failed(format!("the program of '{}' failed", self.name))
            .at(Place::Batch(batch))
            .because(format!("`{}` {why}", self.shown()))
            .help("mend what it failed of, then run again: the batch is committed, and it gets the same rows again")
    }

    /// Secrets are looked up by the shell, which takes one that is not set for an empty text.
    fn check_secrets(&self, batch: BatchId) -> Result<()> {
        let is_set = |name: &&String| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.command.secrets.iter().find(|name| !is_set(name)) {
            None => Ok(()),
            Some(name) => Err(Error::failed(format!("the program of '{}' cannot be run", self.name))
                .at(Place::Batch(batch))
                .because(format!("it needs ${{env:{name}}}, and the environment has no {name}"))
                .help(format!(
                    "set {name} in the environment of this command: the batch is committed, and it gets its rows then"
                ))),
        }
    }
}

/// A file without a name that holds these bytes, to be read from its start.
fn input(bytes: &[u8]) -> Result<File> {
    let made = || {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        file.rewind()?;
        Ok(file)
    };
    made().map_err(|error| Error::io("rows cannot be written for a program to read", std::env::temp_dir(), &error))
}

/// How a program ended, if not well.
fn ended(status: ExitStatus) -> Option<String> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(NOT_FOUND), _) => Some(format!("ended with exit code {NOT_FOUND}: there may be no such program")),
        (Some(code), _) => Some(format!("ended with exit code {code}")),
        (None, Some(signal)) => Some(format!("was ended by signal {signal}")),
        (None, None) => Some("did not end well".to_owned()),
    }
}

impl Sink for CommandSink {
    fn description(&self) -> String {
        format!("command[{}, {}]", self.shown(), self.command.format.name())
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn stages_outside(&self) -> bool {
        false
    }

    fn accepts(&self, columns: &Columns<'_>) -> Result<()> {
        rows::check(self.command.format, columns.schema)
    }

    fn notes(&self) -> Result<Vec<String>> {
        Ok(vec![
            "the program is run once per batch after its commit, also for one without rows; where it fails the job stops, and runs it again".to_owned(),
            "a rewind takes back nothing of what the program did".to_owned(),
        ])
    }

    fn check_free(&self) -> Result<()> {
        Ok(())
    }

    fn open(&mut self, checkpoint_id: &str, _before: &Before, _columns: &Columns<'_>) -> Result<()> {
        checkpoint_id.clone_into(&mut self.checkpoint);
        Ok(())
    }

    fn stage(&mut self, output: &Output<'_>) -> Result<StagedOutput> {
        self.staged = Some((output.batch, self.render(output)?));
        Ok(nothing_outside(&self.name, output))
    }

    fn publish(&mut self, _permit: &CommitPermit, _staged: &StagedOutput, output: &Output<'_>) -> Result<()> {
        self.check_secrets(output.batch)?;
        let bytes = match self.staged.take() {
            Some((batch, bytes)) if batch == output.batch => bytes,
            // a batch that another process committed
            _ => self.render(output)?,
        };
        let ran = self.program(output).stdin(Stdio::from(input(&bytes)?)).status();
        let why = match ran {
            Ok(status) => ended(status),
            Err(error) => Some(format!("cannot be started by /bin/sh: {error}")),
        };
        why.map_or(Ok(()), |why| Err(self.failed(output.batch, why)))
    }

    fn abort(&mut self) -> Result<()> {
        self.staged = None;
        Ok(())
    }

    fn retract(&mut self, _permit: &CommitPermit, keep: Option<BatchId>, _latest: Option<&Output<'_>>) -> Result<()> {
        let which = keep.map_or_else(|| "every batch".to_owned(), |keep| format!("the batches after {keep}"));
        let notice = format!(
            "{}: what its program was given of {which} is retracted, and was not taken back\n",
            printable(&self.name)
        );
        let told = self.notices.write_all(notice.as_bytes()).and_then(|()| self.notices.flush());
        told.map_err(|error| {
            Error::failed(format!("'{}' cannot tell of a rewind", self.name)).because(error.to_string())
        })
    }

    fn verify(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn read_back(&self, _published: &[(BatchId, StagedOutput)]) -> Result<Vec<Vec<u8>>> {
        Err(Error::usage(format!("what the program of '{}' was given is not read back from it", self.name))
            .help("read it from the checkpoint: highwater show"))
    }
}

#[cfg(test)]
mod tests;
