//! Where a source looks: the `path` option, taken apart.

use std::{
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use glob::Pattern;

use crate::model::{self, Error, Result};

/// What a source's path names.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    search: Search,
}

#[derive(Debug)]
pub(super) enum Search {
    /// All files of the root.
    Folder,
    /// One file in the root.
    File(OsString),
    /// One part per level below the root.
    Glob(Vec<Part>),
}

/// One level of a glob.
#[derive(Debug)]
pub(super) enum Part {
    /// `**`: any number of folders, none too.
    AnyDepth,
    Name(Pattern),
}

impl Place {
    /// Takes a path as written in a job apart and looks what is there. A path that exists as it is written is no
    /// pattern, whatever characters it has.
    pub(super) fn open(written: &str) -> Result<Place> {
        if written.is_empty() {
            return Err(Error::usage("the path of a files source is empty")
                .help("name a folder, a file, or a pattern such as 'in/*.json'"));
        }
        let absolute = std::path::absolute(written)
            .map_err(|error| Error::usage(format!("cannot use the path '{written}'")).because(error.to_string()))?;
        match std::fs::symlink_metadata(&absolute) {
            Ok(found) if found.is_file() => Place::file(&absolute, written),
            // A link to a folder is followed for the root, and there only.
            Ok(found) if found.is_dir() || absolute.is_dir() => Ok(Place { root: absolute, search: Search::Folder }),
            Ok(_) => Err(Error::usage(format!("the path '{written}' is neither a folder nor a file"))
                .at(model::Place::Path(absolute))
                .because("links to files, pipes, sockets and devices are never opened")
                .help("name the file itself, or a folder")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Place::glob(&absolute, written),
            Err(error) => Err(Error::usage(format!("cannot use the path '{written}'"))
                .at(model::Place::Path(absolute))
                .because(error.to_string())),
        }
    }

    /// A folder that need not be there yet.
    pub(super) fn folder(path: &Path) -> Place {
        Place { root: path.to_owned(), search: Search::Folder }
    }

    fn file(absolute: &Path, written: &str) -> Result<Place> {
        match (absolute.parent(), absolute.file_name()) {
            (Some(folder), Some(name)) => Ok(Place { root: folder.to_owned(), search: Search::File(name.to_owned()) }),
            _ => Err(Error::usage(format!("the path '{written}' has no folder"))),
        }
    }

    fn glob(absolute: &Path, written: &str) -> Result<Place> {
        let is_pattern = |part: &Component| part.as_os_str().as_encoded_bytes().iter().any(|b| b"*?[".contains(b));
        let components: Vec<_> = absolute.components().collect();
        let Some(first) = components.iter().position(is_pattern) else {
            return Err(Error::usage(format!("the path '{written}' does not exist"))
                .at(model::Place::Path(absolute.to_owned()))
                .help("create the folder, or correct the path; a relative path begins at the current directory"));
        };
        let root: PathBuf = components[..first].iter().collect();
        if !root.is_dir() {
            return Err(Error::usage(format!("the folder of the pattern '{written}' does not exist"))
                .at(model::Place::Path(root))
                .help("create the folder, or correct the path; a relative path begins at the current directory"));
        }
        let parts: Result<Vec<_>> =
            components[first..].iter().map(|part| Part::new(part.as_os_str(), written)).collect();
        Ok(Place { root, search: Search::Glob(parts?) })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn search(&self) -> &Search {
        &self.search
    }

    pub(super) fn is_glob(&self) -> bool {
        matches!(self.search, Search::Glob(_))
    }

    /// Whether files may come below the root's own level.
    pub(super) fn is_deep(&self) -> bool {
        match &self.search {
            Search::Folder => true,
            Search::File(_) => false,
            Search::Glob(parts) => parts.len() > 1 || matches!(parts[..], [Part::AnyDepth]),
        }
    }
}

impl Part {
    fn new(part: &OsStr, written: &str) -> Result<Part> {
        let text = part.to_string_lossy();
        if text == "**" {
            return Ok(Part::AnyDepth);
        }
        Pattern::new(&text).map(Part::Name).map_err(|error| {
            Error::usage(format!("the path '{written}' is not a valid pattern"))
                .because(format!("'{text}', character {}: {}", error.pos + 1, error.msg))
                .help("* is any text, ? one character, [a-c] one of a set, ** any number of folders")
        })
    }
}
