//! Where everything is in a checkpoint's folder; names only.

use std::path::{Path, PathBuf};

use super::disk;
use crate::{job::RECEIVED, model::Result};

/// The folder of one checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Layout(PathBuf);

/// A live database: one part of the log in one generation of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Live {
    /// Parts count from 1.
    pub part: u32,
    /// Each open makes a copy, and a new generation; from 1. Not the generation of batches.
    pub generation: u32,
    pub path: PathBuf,
}

/// A sealed part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sealed {
    pub part: u32,
    pub path: PathBuf,
}

/// What the `log` folder holds.
#[derive(Debug, Default)]
pub(super) struct LogFolder {
    /// By part, then generation, ascending.
    pub live: Vec<Live>,
    /// Ascending.
    pub sealed: Vec<Sealed>,
    /// Half-made files that a crash left.
    pub temporary: Vec<PathBuf>,
}

impl Layout {
    pub fn new(dir: &Path) -> Layout {
        Layout(dir.to_owned())
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn lock(&self) -> PathBuf {
        self.0.join("LOCK")
    }

    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    pub fn bad_records(&self) -> PathBuf {
        self.0.join("bad-records")
    }

    /// Receive logs, a folder for each source.
    pub fn received(&self) -> PathBuf {
        self.0.join(RECEIVED)
    }

    pub fn witness(&self, slot: usize) -> PathBuf {
        self.0.join(format!("witness.{slot}"))
    }

    pub fn live(&self, part: u32, generation: u32) -> PathBuf {
        self.log().join(format!("live-{part:06}.g{generation}"))
    }

    pub fn sealed(&self, part: u32) -> PathBuf {
        self.log().join(format!("part-{part:06}.log"))
    }

    /// What is in the `log` folder. Foreign names are left alone.
    pub fn log_folder(&self) -> Result<LogFolder> {
        let mut folder = LogFolder::default();
        for path in disk::list(&self.log())? {
            let name = disk::name_of(&path);
            if name.ends_with(disk::TEMPORARY) {
                folder.temporary.push(path);
            } else if let Some((part, generation)) = parse_live(&name) {
                folder.live.push(Live { part, generation, path });
            } else if let Some(part) = parse_sealed(&name) {
                folder.sealed.push(Sealed { part, path });
            }
        }
        folder.live.sort_by_key(|live| (live.part, live.generation));
        folder.sealed.sort_by_key(|sealed| sealed.part);
        Ok(folder)
    }
}

fn parse_live(name: &str) -> Option<(u32, u32)> {
    let (part, generation) = name.strip_prefix("live-")?.split_once(".g")?;
    Some((part.parse().ok()?, generation.parse().ok()?))
}

fn parse_sealed(name: &str) -> Option<u32> {
    name.strip_prefix("part-")?.strip_suffix(".log")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let layout = Layout::new(Path::new("/c"));
        assert_eq!(parse_live(&disk::name_of(&layout.live(3, 12))), Some((3, 12)));
        assert_eq!(parse_sealed(&disk::name_of(&layout.sealed(7))), Some(7));
        for foreign in ["live-000001", "live-x.g1", "live-1.gx", "part-1", "part-x.log", "LOCK", ""] {
            assert_eq!((parse_live(foreign), parse_sealed(foreign)), (None, None), "{foreign}");
        }
    }
}
