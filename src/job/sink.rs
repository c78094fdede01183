//! What a job says of a sink.

use std::path::{Path, PathBuf};

use super::{
    server::{OptionsText, PostgresSpec, RedisSpec},
    spec::At,
};
use crate::model::{BatchWindow, OutputMode};

/// A sink table.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    pub name: String,
    pub at: At,
    pub connector: SinkConnector,
    /// As written; `None`: append, or complete if the query aggregates.
    pub output_mode: Option<OutputMode>,
    /// Keys of `DISTINCT ON` are forgotten once the watermark passed their first row's time and the delay.
    pub dedup_within_watermark: bool,
    /// The folder that late rows are published to, as JSON lines.
    pub late_rows: Option<PathBuf>,
    /// The query aggregates over the last batches, not over all.
    pub batch_window: Option<BatchWindow>,
}

/// A place outside of the checkpoint that a sink publishes to, and takes what it published back from.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkPlace<'a> {
    /// What its files are named after; of a table, the sink's name.
    pub name: String,
    pub path: &'a Path,
    pub kind: PlaceKind<'a>,
}

/// What is published to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceKind<'a> {
    /// Files of this format, into a folder.
    Folder(RowFormat),
    /// A table of a database, which is one file.
    Table(&'a str),
}

impl PlaceKind<'_> {
    /// What a path of this kind leads to, in errors.
    pub fn noun(self) -> &'static str {
        match self {
            PlaceKind::Folder(_) => "folder",
            PlaceKind::Table(_) => "database",
        }
    }
}

impl SinkSpec {
    /// What files of late rows are named after. No table has such a name.
    pub fn late_name(&self) -> String {
        format!("{}.late", self.name)
    }

    /// All paths outside of the checkpoint that it publishes to. What a console or a program was given is in none, and a server
    /// ([`SinkConnector::is_server`]) has no path.
    pub fn places(&self) -> Vec<SinkPlace<'_>> {
        let mut places = Vec::new();
        let own = match &self.connector {
            SinkConnector::Files { path, format } => Some((path, PlaceKind::Folder(*format))),
            SinkConnector::Sqlite { path, table } => Some((path, PlaceKind::Table(table))),
            SinkConnector::Console
            | SinkConnector::Memory
            | SinkConnector::Postgres(_)
            | SinkConnector::Redis(_)
            | SinkConnector::Command(_) => None,
        };
        places.extend(own.map(|(path, kind)| SinkPlace { name: self.name.clone(), path, kind }));
        if let Some(path) = &self.late_rows {
            places.push(SinkPlace { name: self.late_name(), path, kind: PlaceKind::Folder(RowFormat::Json) });
        }
        places
    }

    /// The path of the place of this name, to be changed.
    pub(crate) fn path_mut(&mut self, name: &str) -> Option<&mut PathBuf> {
        if name == self.late_name() {
            return self.late_rows.as_mut();
        }
        match &mut self.connector {
            SinkConnector::Files { path, .. } | SinkConnector::Sqlite { path, .. } if name == self.name => Some(path),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum SinkConnector {
    Console,
    Memory,
    Files {
        path: PathBuf,
        format: RowFormat,
    },
    /// A table of an SQLite database.
    Sqlite {
        path: PathBuf,
        table: String,
    },
    /// A table of a PostgreSQL database.
    Postgres(Box<PostgresSpec>),
    /// Keys of a Redis server.
    Redis(Box<RedisSpec>),
    Command(CommandSpec),
}

/// A program that is run for each batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// For `/bin/sh -c`. A secret is in it by name only: the shell reads `${NAME}` from its environment.
    pub shell: String,
    /// The variables of the environment that are secrets of the job, and must be there when it runs.
    pub secrets: Vec<String>,
    pub format: RowFormat,
}

impl SinkConnector {
    pub fn name(&self) -> &'static str {
        match self {
            SinkConnector::Console => "console",
            SinkConnector::Memory => "memory",
            SinkConnector::Files { .. } => "files",
            SinkConnector::Sqlite { .. } => "sqlite",
            SinkConnector::Postgres(_) => "postgres",
            SinkConnector::Redis(_) => "redis",
            SinkConnector::Command(_) => "command",
        }
    }

    /// Whether it publishes to a server, which takes back what it was given.
    pub fn is_server(&self) -> bool {
        matches!(self, SinkConnector::Postgres(_) | SinkConnector::Redis(_))
    }

    /// Whether both publish to the same place of a server.
    pub fn shares_server(&self, other: &SinkConnector) -> bool {
        match (self, other) {
            (SinkConnector::Postgres(one), SinkConnector::Postgres(another)) => one.same_place(another),
            (SinkConnector::Redis(one), SinkConnector::Redis(another)) => one.same_place(another),
            _ => false,
        }
    }

    /// Where the options of a server's sink stand in the job's text.
    pub fn server_options(&self) -> Option<&OptionsText> {
        match self {
            SinkConnector::Postgres(spec) => Some(&spec.text),
            SinkConnector::Redis(spec) => Some(&spec.text),
            _ => None,
        }
    }

    /// What rows of it are in, as it is shown; `None`: no server.
    pub fn server_shown(&self) -> Option<String> {
        match self {
            SinkConnector::Postgres(spec) => Some(format!("table '{}' of {}", spec.table_shown(), spec.server.shown())),
            SinkConnector::Redis(spec) => Some(format!("keys '{}' of {}", spec.key_prefix, spec.server.shown())),
            _ => None,
        }
    }

    /// Whether rows of later batches take the place of earlier ones in update mode.
    pub fn replaces_rows(&self) -> bool {
        matches!(self, SinkConnector::Sqlite { .. }) || self.is_server()
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFormat {
    /// One object a line.
    Json,
    /// RFC 4180 with a header line.
    Csv,
    /// Typed columns.
    Parquet,
}

impl RowFormat {
    /// All that there are.
    pub const ALL: [RowFormat; 3] = [RowFormat::Json, RowFormat::Csv, RowFormat::Parquet];

    /// As a job file names it, and the ending of files.
    pub fn name(self) -> &'static str {
        match self {
            RowFormat::Json => "json",
            RowFormat::Csv => "csv",
            RowFormat::Parquet => "parquet",
        }
    }
}
