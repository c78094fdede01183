//! The ways in which a checkpoint is damaged.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::specimen::Specimen;
use crate::binary::{Chance, copy_tree};

/// What is done to one file, or (the last two) to the live log as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    Flip,
    Zero,
    Cut,
    Delete,
    /// Its contents and those of another one change places.
    Exchange,
    /// Another one's contents come over its own.
    Overwrite,
    /// The file as it was three batches earlier is put back.
    Older,
    /// The live log of three batches earlier is put beside the newer one.
    OlderBeside,
    /// The live log of three batches earlier is put in the place of the newer one.
    OlderInstead,
}

impl Mutation {
    pub const OF_A_FILE: [Mutation; 7] = [
        Mutation::Flip,
        Mutation::Zero,
        Mutation::Cut,
        Mutation::Delete,
        Mutation::Exchange,
        Mutation::Overwrite,
        Mutation::Older,
    ];

    /// Does it, and says what was done.
    pub fn apply(self, specimen: &Specimen, file: &Path, chance: &mut Chance) -> String {
        let path = specimen.path(file);
        let name = file.display();
        match self {
            Mutation::Flip | Mutation::Zero | Mutation::Cut => {
                let mut bytes = fs::read(&path).expect("a file of the checkpoint");
                let story = self.change(&mut bytes, chance);
                fs::write(&path, bytes).expect("it can be written");
                format!("{name} {story}")
            }
            Mutation::Delete => {
                fs::remove_file(&path).expect("it can be removed");
                format!("{name} deleted")
            }
            Mutation::Exchange | Mutation::Overwrite => {
                let others = there(specimen, &specimen.files);
                let other = others[chance.below(others.len())];
                let (mine, theirs) = (read(&path), read(&specimen.path(other)));
                fs::write(&path, theirs).expect("it can be written");
                if self == Mutation::Overwrite {
                    return format!("{name} overwritten with {}", other.display());
                }
                fs::write(specimen.path(other), mine).expect("it can be written");
                format!("{name} exchanged with {}", other.display())
            }
            Mutation::Older => older_file(specimen, file, chance),
            Mutation::OlderBeside => older_live(specimen, false),
            Mutation::OlderInstead => older_live(specimen, true),
        }
    }

    fn change(self, bytes: &mut Vec<u8>, chance: &mut Chance) -> String {
        match self {
            Mutation::Flip => {
                // most of sled's file is zeros that nobody reads: aim at what was written
                let written: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
                let Some(at) = written.get(chance.below(written.len())) else {
                    return "has nothing to flip".to_owned();
                };
                let bit = chance.below(8);
                bytes[*at] ^= 1 << bit;
                format!("bit {bit} of byte {at} flipped")
            }
            Mutation::Zero => {
                let from = chance.below(bytes.len());
                let to = bytes.len().min(from + [64, 4096, usize::MAX / 2][chance.below(3)]);
                bytes[from..to].fill(0);
                format!("zeros from byte {from} to {to}")
            }
            _ => {
                bytes.truncate(chance.below(bytes.len()));
                format!("cut to {} bytes", bytes.len())
            }
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file of the checkpoint")
}

/// The files that no earlier damage deleted.
pub fn there<'a>(specimen: &Specimen, files: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    files.iter().filter(|file| specimen.path(file).exists()).collect()
}

/// The file of that name in the older copy, in whichever folder; one that there was none of is exchanged for chance's.
fn older_file(specimen: &Specimen, file: &Path, chance: &mut Chance) -> String {
    let same: Vec<&PathBuf> = specimen.older.iter().filter(|older| older.file_name() == file.file_name()).collect();
    let older = match same[..] {
        [] => &specimen.older[chance.below(specimen.older.len())],
        _ => same[chance.below(same.len())],
    };
    // where it was, or over what has its name now
    let target = if same.is_empty() { older.as_path() } else { file };
    let path = specimen.path(target);
    fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder can be made");
    fs::copy(specimen.older_path(older), path).expect("it can be written");
    format!("{} as it was three batches earlier, as {}", older.display(), target.display())
}

/// The folders of the live log; there may be several generations.
fn live_folders(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let folders = files.iter().filter_map(|file| file.parent());
    folders.filter(|folder| folder.parent() == Some(Path::new("log"))).map(Path::to_owned).collect()
}

fn older_live(specimen: &Specimen, instead: bool) -> String {
    if instead {
        for folder in
            live_folders(&specimen.files).iter().map(|folder| specimen.path(folder)).filter(|path| path.exists())
        {
            fs::remove_dir_all(folder).expect("it can be removed");
        }
    }
    let mut story = format!("an older live log {} the newer one:", if instead { "in place of" } else { "beside" });
    for folder in live_folders(&specimen.older) {
        copy_tree(&specimen.older_path(&folder), &specimen.path(&folder));
        story += &format!(" {}", folder.display());
    }
    story
}
