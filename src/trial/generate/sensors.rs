//! Readings of pumps along a pipeline, and two tables about the pumps that do not change.
//!
//! Each pump is read about once in ten seconds. Pressure is around 80 psi; two readings in a hundred are below 5, more
//! of them at old pumps. One pump of each ten was never serviced, and one is of a vendor that nobody knows.

use std::io::Write;

use super::{FilesOptions, Lines, TIME_FIRST_S, push_time};
use crate::trial::chance::Chance;

const PUMPS: u64 = 40;
const READINGS_PER_SECOND: u64 = 4;
const VENDORS: [&str; 4] = ["Hydraulic Works", "Pump & Sons", "Riverside, Inc.", "Steelflow"];
const TECHNICIANS: [&str; 5] = ["A. Baker", "C. Diaz", "E. Fischer", "G. Haddad", "I. Jansen"];
const SERVICES: [&str; 3] = ["bearings replaced", "seals replaced, tested", "\"routine\" service"];

pub(super) struct Sensors {
    chance: Chance,
    row: u64,
}

impl Sensors {
    pub fn new(options: &FilesOptions, index: u32) -> Sensors {
        Sensors { chance: options.chance(index), row: options.first_row(index) }
    }
}

impl Lines for Sensors {
    fn push(&mut self, out: &mut Vec<u8>) {
        let pump = self.chance.below(PUMPS);
        let is_low = self.chance.below(100 * PUMPS) < pump * 4;
        // tenths of a psi
        let psi = if is_low { self.chance.below(50) } else { 600 + self.chance.below(400) };
        let (hz, flow) = (95 + self.chance.below(15), 500 + self.chance.below(1_500));
        out.extend_from_slice(b"{\"time\": \"");
        push_time(out, TIME_FIRST_S + self.row / READINGS_PER_SECOND);
        let (whole, tenth) = (psi / 10, psi % 10);
        let written = writeln!(
            out,
            "\", \"resid\": \"pump{pump:02}\", \"hz\": {}.{}, \"flow\": {flow}, \"psi\": {whole}.{tenth}}}",
            hz / 10,
            hz % 10
        );
        debug_assert!(written.is_ok(), "a vector takes what is written");
        self.row += 1;
    }
}

/// Which pumps there are: all but one of each ten.
pub(super) fn vendors(options: &FilesOptions) -> String {
    let mut chance = Chance::of_stream(options.seed, u64::MAX);
    let mut text = "resid,model,vendor,bought\n".to_owned();
    for pump in (0..PUMPS).filter(|pump| pump % 10 != 9) {
        let vendor = VENDORS[chance.below(VENDORS.len() as u64) as usize];
        let bought = format!("{}-{:02}-{:02}", 2010 + chance.below(15), 1 + chance.below(12), 1 + chance.below(28));
        text += &format!("pump{pump:02},P{},{},{bought}\n", 100 * (1 + chance.below(4)), quoted(vendor));
    }
    text
}

/// When each pump was last serviced; one of each ten never was.
pub(super) fn maintenance(options: &FilesOptions) -> String {
    let mut chance = Chance::of_stream(options.seed, u64::MAX - 1);
    let mut text = "resid,serviced,technician,what\n".to_owned();
    for pump in (0..PUMPS).filter(|pump| pump % 10 != 4) {
        let serviced = format!("2026-{:02}-{:02}", 1 + chance.below(4), 1 + chance.below(28));
        let technician = TECHNICIANS[chance.below(TECHNICIANS.len() as u64) as usize];
        let what = SERVICES[chance.below(SERVICES.len() as u64) as usize];
        text += &format!("pump{pump:02},{serviced},{technician},{}\n", quoted(what));
    }
    text
}

/// A field of CSV.
fn quoted(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}
