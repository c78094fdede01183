//! What a database may hold at any moment: each table is as some committed batch left it, whatever was cut off.

use std::{fs, path::Path};

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    disk::Tree,
    scenarios::{Position, Step},
    world::{By, World, sorted},
};
use crate::stream::temporary_folder;

const TABLES: [&str; 3] = ["added", "changed", "whole"];

/// A table: the newest batch in it, and its rows.
type Table = (Option<u64>, Vec<String>);

/// The tables of a run that nobody disturbed, by count of batches.
pub struct Tables(Vec<Vec<Table>>);

impl Tables {
    /// Runs the job batch by batch in its world.
    pub fn of(world: &World) -> Tables {
        world.put(&Tree::default());
        let mut after = vec![vec![(None, Vec::new()); TABLES.len()]];
        for newest in 0..world.scenario.batches() as u64 {
            let done = world.perform(Step::Run { newest }, Some(1), By::Library, 0);
            done.and_then(|()| read(&world.output())).map_or_else(|why| panic!("{why}"), |tables| after.push(tables));
        }
        Tables(after)
    }

    /// Whether each table of the world's database is as a batch left it that was committed.
    ///
    /// # Errors
    /// What SQLite finds wrong with the database; rows of no batch, or of one that was not committed.
    pub fn check(&self, world: &World, position: Position) -> Result<(), String> {
        // a look rolls back what was cut off, and the job is to do that itself
        let copy = temporary_folder();
        for name in ["out.db", "out.db-journal"] {
            let from = world.output().join(name);
            if from.exists() {
                fs::copy(from, copy.path().join(name)).map_err(|error| error.to_string())?;
            }
        }
        for (name, (newest, rows)) in TABLES.iter().zip(read(copy.path())?) {
            // a rewind that is durable may still have to take rows back
            if position.generation == 1 && newest > position.newest {
                return Err(format!("table '{name}' has batch {newest:?} at {position:?}"));
            }
            let batches = newest.map_or(0, |newest| newest as usize + 1);
            let number = TABLES.iter().position(|table| table == name).expect("it is one of them");
            let expected = &self.0.get(batches).ok_or_else(|| format!("table '{name}' has {batches} batches"))?[number];
            if *expected != (newest, rows) {
                return Err(format!("table '{name}' is not as batch {newest:?} left it"));
            }
        }
        Ok(())
    }
}

/// All tables; one that is not there has nothing.
fn read(folder: &Path) -> Result<Vec<Table>, String> {
    let path = folder.join("out.db");
    if !path.exists() {
        return Ok(vec![(None, Vec::new()); TABLES.len()]);
    }
    read_all(&path).map_err(|error| format!("the database: {error}"))
}

fn read_all(path: &Path) -> rusqlite::Result<Vec<Table>> {
    let database = Connection::open(path)?;
    let sound: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0))?;
    if sound != "ok" {
        return Err(rusqlite::Error::InvalidColumnName(sound));
    }
    TABLES.iter().map(|name| table(&database, name)).collect()
}

fn table(database: &Connection, name: &str) -> rusqlite::Result<Table> {
    let find = "SELECT name FROM sqlite_master WHERE name = ?1";
    if database.query_row(find, [name], |_| Ok(())).optional()?.is_none() {
        return Ok((None, Vec::new()));
    }
    let newest = "SELECT max(batch) FROM highwater_batches WHERE name = ?1";
    let newest: Option<i64> = database.query_row(newest, [name], |row| row.get(0))?;
    let mut select = database.prepare(&format!("SELECT * FROM {name}"))?;
    // which batch wrote a row last depends on rewinds
    let width = select.column_names().filter(|column| *column != "highwater_batch").count();
    let row = |row: &rusqlite::Row<'_>| {
        let cells =
            (0..width).map(|cell| Ok(format!("{:?}", row.get_ref(cell)?))).collect::<rusqlite::Result<Vec<_>>>();
        Ok(cells?.join(" "))
    };
    let rows = select.query_map((), row)?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok((newest.map(|newest| newest.cast_unsigned()), sorted(rows)))
}
