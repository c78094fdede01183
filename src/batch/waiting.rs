//! Waiting for input.

use std::time::Duration;

use super::{clock::Stopwatch, input::Inputs};

/// A job that has nothing to do looks at its folders for at most one part of so many of its time, as long as nothing tells that
/// something came: a folder of 100,000 files takes two thirds of a second.
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
        let waited = Stopwatch::start();
        while !self.wait_in_turns(longest, stop) && waited.elapsed() < LOOKS_APART * looks_took && !stop() {}
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
            let watch = input.watch.get_or_insert_with(|| input.source.watch());
            if watch.wait(share, stop) {
                return true;
            }
        }
        // what was received is looked at at once
        receives
    }
}
