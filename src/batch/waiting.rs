//! Waiting for input.

use std::time::Duration;

use super::{clock::Stopwatch, input::Inputs};

/// A job that has nothing to do looks at its folders for at most one part of so many of its time, as long as nothing tells that
/// something came: a look at 100,000 files takes some 0.4 s.
const LOOKS_APART: u32 = 20;

impl Inputs {
    /// Waits for a change in any source, at most so long (longer where looking takes long), and no longer than until `stop`
    /// says so.
    pub fn wait(&mut self, longest: Duration, stop: &dyn Fn() -> bool) {
        // While a file is being written each of its writes is a change: there is nothing to be hinted at.
        if let Some(settles_in) = self.inputs.iter().filter_map(|input| input.settles_in).min() {
            std::thread::sleep(settles_in.min(longest));
            return;
        }
        let looks_took: Duration = self.inputs.iter().map(|input| input.look_took).sum();
        // what came between the last look and the begin of the watch is told by nobody
        let longer = if self.watch_all() { LOOKS_APART * looks_took } else { Duration::ZERO };
        let waited = Stopwatch::start();
        while !self.wait_in_turns(longest, stop) && waited.elapsed() < longer && !stop() {}
    }

    /// Watches each folder from now on; whether all were watched before.
    fn watch_all(&mut self) -> bool {
        let mut were_watched = true;
        for input in self.inputs.iter_mut().filter(|input| input.receiving.is_none() && input.watch.is_none()) {
            input.watch = Some(input.source.watch());
            were_watched = false;
        }
        were_watched
    }

    /// One source is watched by its hint; with several, each gets an equal part of the time. Whether there may be something.
    fn wait_in_turns(&mut self, longest: Duration, stop: &dyn Fn() -> bool) -> bool {
        let share = longest / u32::try_from(self.inputs.len().max(1)).unwrap_or(u32::MAX);
        let mut receives = false;
        for input in &mut self.inputs {
            if let Some(receiving) = &input.receiving {
                receiving.wait(share);
                receives = true;
                continue;
            }
            if input.watch.as_ref().is_some_and(|watch| watch.wait(share, stop)) {
                return true;
            }
        }
        // what was received is looked at at once
        receives
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::{self, Variables},
        query::JobQueries,
    };

    /// A wait that is not ended by what it should be ended by would be one of twenty hours.
    #[test]
    fn a_job_whose_looks_take_long_still_sees_what_comes() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let table = |name: &str, path: &std::path::Path| {
            format!(
                "CREATE TABLE {name} (a BIGINT) WITH (connector = 'files', path = '{}', format = 'json');",
                path.display()
            )
        };
        let text = table("t", folder.path()) + &table("u", other.path()) + "SELECT a FROM t; SELECT a FROM u;";
        let job = job::parse("job.sql", "job", &text, &Variables::new(Default::default())).unwrap();
        let mut inputs = Inputs::open(&job, &JobQueries::plan(&job).unwrap(), 1).unwrap();
        inputs.inputs[1].look_took = Duration::from_secs(3600);
        let never = || false;
        // what came before the watch began is seen by the next look, which does not wait for long
        std::fs::write(other.path().join("1.json"), "{}").unwrap();
        inputs.wait(Duration::from_millis(20), &never);
        // a hint ends the long wait, of whichever source it is
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                std::fs::write(folder.path().join("2.json"), "{}").unwrap();
            });
            inputs.wait(Duration::from_millis(20), &never);
        });
        let asked = std::cell::Cell::new(0);
        inputs.wait(Duration::from_millis(20), &|| asked.replace(asked.get() + 1) > 3);
    }
}
