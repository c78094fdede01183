//! Walking the whole log: every record, every payload, every file.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    archive::joins,
    chain::{Chain, need_log},
    codec::Envelope,
    disk,
    history::History,
    layout::Layout,
    open, part, payloads,
    reader::{Attempt, Source, retrying},
    record::{PayloadPlace, PayloadRef, Record, state_file_seq},
    witness::{Mark, Witness},
};
use crate::model::{BatchId, Result};

/// Something that is not as the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub what: String,
    pub path: Option<PathBuf>,
    /// The batch that suffers.
    pub batch: Option<BatchId>,
    /// A leftover of a crash that a later start or snapshot removes, not damage.
    pub harmless: bool,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)?;
        if let Some(batch) = self.batch {
            write!(f, " (batch {batch})")?;
        }
        if let Some(path) = &self.path {
            write!(f, ": {}", path.display())?;
        }
        Ok(())
    }
}

/// Checks a checkpoint to its start: checksums, chain, gaps, payloads, files without a record, witness. Empty: all is
/// sound. Works on a running one, too; nothing is changed.
///
/// # Errors
/// Of kind `Refused` where there is no checkpoint; I/O errors.
pub fn verify(dir: &Path) -> Result<Vec<Finding>> {
    let layout = Layout::new(dir);
    need_log(&layout)?;
    retrying(&layout, || {
        let Some((source, _lock)) = Source::find(&layout)? else { return Ok(Attempt::Busy) };
        let (running, mut inspection) = (source.running, Inspection { layout: &layout, findings: Vec::new() });
        match inspection.whole(source) {
            Ok(()) => Ok(Attempt::Done(inspection.findings)),
            Err(error) if running => Ok(Attempt::Moved(error)),
            Err(error) => Err(error),
        }
    })
}

struct Inspection<'a> {
    layout: &'a Layout,
    findings: Vec<Finding>,
}

impl Inspection<'_> {
    fn whole(&mut self, source: Source) -> Result<()> {
        let mut records = self.sealed_parts(source.part)?;
        if let Some(damage) = &source.damage {
            self.find(format!("the live log is damaged: {damage}"), Some(self.layout.log()), None);
        }
        let live = if source.entries.is_empty() { Chain::default() } else { Chain::verify(source.entries)? };
        if let (Some(last), Some(first)) = (records.last(), live.envelopes.first())
            && !joins(std::slice::from_ref(last), Some((first.seq, first.prev)))
        {
            self.find("the live log does not follow the newest sealed part".to_owned(), Some(self.layout.log()), None);
        }
        records.extend(live.envelopes);
        self.history(&records)?;
        let named = self.payloads(&records)?;
        let next_seq = records.last().map_or(0, |last| last.seq + 1);
        self.orphans(&named, next_seq, source.running)?;
        if !source.running {
            self.witness(next_seq, &records)?;
        }
        Ok(())
    }

    fn find(&mut self, what: String, path: Option<PathBuf>, batch: Option<BatchId>) {
        self.findings.push(Finding { what, path, batch, harmless: false });
    }

    fn sealed_parts(&mut self, live_part: u32) -> Result<Vec<Envelope>> {
        let mut records: Vec<Envelope> = Vec::new();
        let mut number = None;
        for sealed in self.layout.log_folder()?.sealed.into_iter().filter(|sealed| sealed.part < live_part) {
            if number.is_some_and(|number| sealed.part != number + 1) {
                self.find(format!("a sealed part before {} is missing", sealed.part), Some(self.layout.log()), None);
            }
            number = Some(sealed.part);
            let entries = match part::load(&sealed.path)? {
                Ok((header, entries)) if header.start.part == sealed.part => entries,
                Ok((header, _)) => {
                    self.find(
                        format!("this is part {}, under another's name", header.start.part),
                        Some(sealed.path),
                        None,
                    );
                    continue;
                }
                Err(damage) => {
                    self.find(format!("a sealed part is damaged: {damage}"), Some(sealed.path), None);
                    continue;
                }
            };
            let chain = Chain::verify(entries)?;
            if let Some((seq, damage)) = &chain.damage {
                self.find(
                    format!("record {seq} of a sealed part is damaged: {damage}"),
                    Some(sealed.path.clone()),
                    None,
                );
            }
            let next = chain.envelopes.first().map(|first| (first.seq, first.prev));
            if !records.is_empty() && !joins(&records, next) {
                self.find("a sealed part does not follow the one before it".to_owned(), Some(sealed.path), None);
            }
            records.extend(chain.envelopes);
        }
        if number.is_some_and(|number| number + 1 != live_part) {
            self.find(
                format!("the sealed part before the live part {live_part} is missing"),
                Some(self.layout.log()),
                None,
            );
        }
        Ok(records)
    }

    /// Whether the records make a history. Where some are missing, only the newest run of them can.
    fn history(&mut self, records: &[Envelope]) -> Result<()> {
        let breaks = |pair: &[Envelope]| pair[1].seq != pair[0].seq + 1 || pair[1].prev != pair[0].hash;
        let begin = records.windows(2).rposition(breaks).map_or(0, |before| before + 1);
        let layout = self.layout;
        match History::fold(&records[begin..], &mut |segment| open::load_seen(layout, segment)) {
            Ok(Some(history)) => history.contradictions.into_iter().for_each(|what| self.find(what, None, None)),
            Ok(None) => self.find("no record can be read".to_owned(), Some(self.layout.log()), None),
            Err(error) => self.find(error.to_string(), None, None),
        }
        Ok(())
    }

    /// Reads every file that a record names (inline payloads were verified with their records); yields their names.
    fn payloads(&mut self, records: &[Envelope]) -> Result<BTreeSet<String>> {
        let mut named = BTreeSet::new();
        for (index, envelope) in records.iter().enumerate() {
            let mut refs: Vec<&PayloadRef> = envelope.record.own_payloads(envelope.seq).collect();
            if let (0, Record::Base(base)) = (index, &envelope.record) {
                let state = base.standing.snapshot.iter().flat_map(|snapshot| &snapshot.payloads);
                refs.extend(state.chain(base.seen.iter().map(|segment| &segment.payload)));
            }
            for payload in refs.into_iter().filter(|payload| payload.place == PayloadPlace::File) {
                if named.insert(payload.file_name())
                    && let Err(error) = payloads::read_file(self.layout, payload)
                {
                    let path = self.layout.state().join(payload.file_name());
                    self.find(error.why().unwrap_or(error.what()).to_owned(), Some(path), envelope.record.batch());
                }
            }
        }
        Ok(named)
    }

    fn orphans(&mut self, named: &BTreeSet<String>, next_seq: u64, running: bool) -> Result<()> {
        for path in disk::list(&self.layout.state())? {
            let name = disk::name_of(&path);
            // A running job writes a file before the record that names it.
            let coming = running && state_file_seq(&name).is_some_and(|seq| seq >= next_seq);
            if !named.contains(&name) && !coming {
                let what = "no record names this file".to_owned();
                self.findings.push(Finding { what, path: Some(path), batch: None, harmless: true });
            }
        }
        Ok(())
    }

    fn witness(&mut self, next_seq: u64, records: &[Envelope]) -> Result<()> {
        let witness = Witness::read(self.layout)?;
        let differs = |mark: &Mark| records.iter().any(|record| record.seq == mark.seq && record.hash != mark.hash);
        match witness.newest() {
            Some(mark) if mark.seq >= next_seq => {
                let what = format!("the log ends before record {}, which was acknowledged", mark.seq);
                self.find(what, Some(self.layout.log()), mark.batch);
            }
            Some(mark) if differs(&mark) => {
                let what =
                    format!("record {} is not the one that the witness files saw: the log was exchanged", mark.seq);
                self.find(what, Some(self.layout.log()), mark.batch);
            }
            Some(_) => {}
            None => self.find("neither witness file can be read".to_owned(), Some(self.layout.witness(0)), None),
        }
        Ok(())
    }
}
