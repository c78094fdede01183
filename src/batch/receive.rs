//! Sources that receive, as inputs of the batch loop: when segments are closed, what a run waits for, what is let go of.

use std::time::Duration;

use super::{
    clock::{Stopwatch, now_us, passed_us},
    input::{Input, Inputs},
    trigger::{Idle, Trigger},
};
use crate::{
    checkpoint::History,
    job::{JobSpec, Sender},
    model::{BatchId, Error, ErrorKind, Faults, Notice, PlannedFile, Result},
    source::{Next, Receiver, ReceiverOptions},
};

/// A wait that is shorter would be none.
const SHORTEST: Duration = Duration::from_millis(10);

/// Adds to what kept a job from its first batch that it has read nothing of a standard input: what was piped into it is not
/// received, and gone with it.
pub(super) fn unread_yet(job: &JobSpec) -> impl Fn(Error) -> Error + use<> {
    let mut received = job.sources.iter().filter_map(|source| source.received.as_ref());
    let has_stdin = received.any(|received| received.sender == Sender::Stdin);
    move |error| match error.kind() {
        ErrorKind::Usage | ErrorKind::Crashed => error,
        _ if !has_stdin => error,
        _ => error.or_help("nothing was read of the standard input: give all of it again then"),
    }
}

/// A source that receives, at work.
pub(super) struct Receiving {
    receiver: Receiver,
    /// Since the first row of the open segment was met.
    open_since: Option<Stopwatch>,
    trigger: Trigger,
    /// Whether it was told that nothing more comes.
    end_told: bool,
}

impl Receiving {
    /// Closes the open segment when it is time, so that the next batch can take it.
    fn close_when_due(&mut self) -> Result<()> {
        if self.receiver.open_bytes() == 0 {
            self.open_since = None;
            return Ok(());
        }
        let age = self.open_since.get_or_insert_with(Stopwatch::start).elapsed();
        let due = match self.trigger {
            // what is there when the trigger comes is what its batch is of
            Trigger::Interval(_) => true,
            Trigger::Once => !self.is_awaited(),
            Trigger::AvailableNow => !self.receiver.will_end() || age >= self.receiver.batch_interval(),
            Trigger::AsSoonAsPossible => age >= self.receiver.batch_interval(),
        };
        // nothing comes that these rows could wait for
        if due || self.receiver.has_ended() || self.receiver.is_full() {
            self.open_since = None;
            self.receiver.close_segment()?;
        }
        Ok(())
    }

    /// Whether the only batch of a run is still to get rows: what ends is taken as a whole, if there is room for it.
    fn is_awaited(&self) -> bool {
        self.trigger == Trigger::Once && self.receiver.will_end() && !self.receiver.is_full()
    }

    /// What waits to be taken.
    fn next(&mut self) -> Result<Next> {
        self.close_when_due()?;
        let files = self.receiver.unread()?;
        Ok(Next { files: if self.is_awaited() { Vec::new() } else { files }, ..Next::default() })
    }

    /// Whether it is to be told that nothing more comes: once, and where the run would otherwise go on.
    fn tells_end(&mut self) -> bool {
        let has_ended = self.receiver.has_ended() && self.receiver.broken().is_none();
        let tells = !self.end_told && has_ended && self.trigger.when_idle() != Idle::End;
        self.end_told |= tells;
        tells
    }

    /// Waits for rows, or until those of the open segment have waited long enough.
    pub fn wait(&self, longest: Duration) {
        match &self.open_since {
            None => self.receiver.wait(longest),
            Some(since) => {
                let left = self.receiver.batch_interval().saturating_sub(since.elapsed());
                // rows of the only batch may have to wait longer
                std::thread::sleep(left.max(SHORTEST).min(longest));
            }
        }
    }

    pub fn committed(&self, files: &[PlannedFile]) {
        self.receiver.committed(files);
    }

    /// Bytes that no committed batch has taken.
    pub fn unread_bytes(&self) -> u64 {
        self.receiver.unread_bytes()
    }
}

impl Input {
    /// What waits of a source that receives: closed segments, in the order in which they came.
    pub(super) fn received(&mut self, notice: &mut dyn FnMut(Notice)) -> Result<Next> {
        let Some(receiving) = &mut self.receiving else {
            // nothing is received in this run: what was before is in the folder
            let files = self.source.list()?.files.into_iter().filter(|file| !self.seen.contains(&file.identity));
            return Ok(Next { files: files.collect(), ..Next::default() });
        };
        for told in receiving.receiver.take_notices() {
            notice(Notice { text: format!("source '{}': {told}", self.name), ..told });
        }
        if receiving.tells_end() {
            let text = format!("source '{}': the standard input has ended; nothing more comes of it", self.name);
            notice(Notice::news(text));
        }
        let mut next = receiving.next()?;
        next.files.retain(|file| !self.seen.contains(&file.identity));
        Ok(next)
    }

    /// Whether more will come of a source that ends.
    pub(super) fn will_end(&self) -> bool {
        self.receiving.as_ref().is_some_and(|receiving| receiving.receiver.will_end())
    }
}

impl Inputs {
    /// Opens the receive logs and begins to receive. A run that ends when nothing is left takes what was received before,
    /// and receives only from what has an end.
    ///
    /// # Errors
    /// Of kind `Refused` for a receive log that is damaged, `Usage` for an address that may not be listened on, `Failed`
    /// for one that cannot be.
    pub fn receive(&mut self, job: &JobSpec, trigger: Trigger, accept_gap: bool, faults: &Faults) -> Result<()> {
        let options = ReceiverOptions { accept_gap, now_us, passed_us, faults: faults.clone() };
        let (unread_yet, mut reads_stdin) = (unread_yet(job), false);
        for (spec, input) in job.sources.iter().zip(&mut self.inputs) {
            if spec.received.is_none() {
                continue;
            }
            let named = |error: Error| {
                let error = error.at_if_none(job.place(spec.files.path_at));
                if reads_stdin { error } else { unread_yet(error) }
            };
            let mut receiver = Receiver::open(spec, &input.seen, &options).map_err(named)?;
            if trigger.when_idle() != Idle::End || receiver.will_end() {
                receiver.start().map_err(named)?;
                reads_stdin |= spec.received.as_ref().is_some_and(|received| received.sender == Sender::Stdin);
            }
            input.receiving = Some(Receiving { receiver, open_since: None, trigger, end_told: false });
        }
        Ok(())
    }

    /// Receives no more; what came is durable.
    ///
    /// # Errors
    /// Of kind `Failed`, where the last rows cannot be put into a segment; they are found at the next start.
    pub fn stop_receiving(&mut self) -> Result<()> {
        let mut first = Ok(());
        for input in &mut self.inputs {
            let Some(mut receiving) = input.receiving.take() else { continue };
            let stopped = receiving.receiver.stop();
            // nobody asks for them any more
            for told in receiving.receiver.take_notices().iter().filter(|notice| notice.is_warning) {
                tracing::warn!("source '{}': {told}", input.name);
            }
            // one that fails leaves the others to be stopped all the same
            match (&first, stopped) {
                (Ok(()), stopped) => first = stopped,
                (Err(_), Err(second)) => {
                    tracing::warn!("source '{}' could not be stopped in good order: {second}", input.name)
                }
                (Err(_), Ok(())) => {}
            }
        }
        first
    }

    /// Whether a source that ends has not ended yet, so that there is more to wait for.
    pub fn more_to_come(&self) -> bool {
        self.inputs.iter().any(Input::will_end)
    }

    /// Whether nothing more can come of any source.
    pub fn have_ended(&self) -> bool {
        let has_ended =
            |input: &Input| input.receiving.as_ref().is_some_and(|receiving| receiving.receiver.has_ended());
        !self.inputs.is_empty() && self.inputs.iter().all(has_ended)
    }

    /// Bytes of what was received and no committed batch has taken.
    pub fn received_bytes(&self) -> u64 {
        self.inputs.iter().filter_map(|input| input.receiving.as_ref()).map(Receiving::unread_bytes).sum()
    }

    /// The error of a source that broke off before its end, if one did.
    pub fn broken(&self) -> Option<Error> {
        self.inputs.iter().find_map(|input| {
            let why = input.receiving.as_ref()?.receiver.broken()?;
            let error = Error::failed(format!("source '{}': the standard input broke off before its end", input.name));
            Some(error.because(why).help(
                "what had come before is received and committed; give the rest: from the line that has no end, or came last, on",
            ))
        })
    }

    /// Lets go of segments that no batch after `oldest` has read; `as_of_us`: when the newest batch was committed.
    ///
    /// # Errors
    /// Of kind `Failed`, naming the segment.
    pub fn retire(&self, history: &History, oldest: BatchId, as_of_us: i64) -> Result<()> {
        for input in &self.inputs {
            let Some(receiving) = &input.receiving else { continue };
            let seen = history.seen_files();
            let unneeded = seen.iter().rfind(|seen| seen.batch <= oldest && seen.source == input.name);
            let Some(newest) = unneeded else { continue };
            let gone = receiving.receiver.retire(&newest.file, as_of_us)?;
            tracing::debug!(source = input.name, gone, "segments that no batch needs were removed");
        }
        Ok(())
    }
}
