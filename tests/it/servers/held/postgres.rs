//! The tables of a schema, read and put back by a connection of the test's own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{Held, Store, Wire};

/// The statement, and what the server says of it when it is done.
pub const WIRE: Wire = Wire { asked: b"COMMIT\0", answered: b"COMMIT\0" };

/// What is written down of batches.
const BATCHES: &str = "highwater_batches";
/// The column that says of which batch a row is.
const OF_BATCH: &str = "highwater_batch";

pub struct Tables {
    runtime: Runtime,
    client: Client,
    schema: String,
    /// Tables of which there is an empty copy, for when they must be made again.
    copied: BTreeSet<String>,
}

impl Tables {
    pub fn of(url: &str, schema: &str) -> Tables {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the server answers");
            tokio::spawn(connection);
            client
        });
        let mut tables = Tables { runtime, client, schema: schema.to_owned(), copied: BTreeSet::new() };
        // what the test puts back need not survive the server
        let made = tables.ask(&format!(
            "SET synchronous_commit = off; SET client_min_messages = warning;
             CREATE SCHEMA IF NOT EXISTS {schema}; CREATE SCHEMA IF NOT EXISTS {schema}_empty"
        ));
        made.unwrap_or_else(|why| panic!("{why}"));
        tables
    }

    /// The first column of each row.
    fn ask(&mut self, sql: &str) -> Result<Vec<String>, String> {
        let Tables { runtime, client, .. } = self;
        let answers = runtime.block_on(client.simple_query(sql)).map_err(|error| format!("{sql}: {error:?}"))?;
        let row = |answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
            _ => None,
        };
        Ok(answers.into_iter().filter_map(row).collect())
    }

    fn names(&mut self) -> Result<Vec<String>, String> {
        let names = format!("SELECT tablename FROM pg_tables WHERE schemaname = '{}' ORDER BY 1", self.schema);
        self.ask(&names)
    }
}

impl Store for Tables {
    fn read(&mut self) -> Result<Held, String> {
        let (mut held, schema) = (BTreeMap::new(), self.schema.clone());
        for name in self.names()? {
            if self.copied.insert(name.clone()) {
                self.ask(&format!(
                    "CREATE TABLE IF NOT EXISTS {schema}_empty.{name} (LIKE {schema}.{name} INCLUDING ALL)"
                ))?;
            }
            let rows = format!(
                "SELECT coalesce(jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text), '[]')::text FROM {schema}.{name} t"
            );
            let rows = self.ask(&rows)?.pop().unwrap_or_default();
            held.insert(name, serde_json::from_str(&rows).map_err(|error| format!("{error}: {rows}"))?);
        }
        Ok(Held(held))
    }

    fn put(&mut self, held: &Held) -> Result<(), String> {
        let schema = self.schema.clone();
        let there = self.names()?;
        // one statement, and so one transaction
        let mut sql = String::new();
        for name in there.iter().filter(|name| !held.0.contains_key(*name)) {
            sql += &format!("DROP TABLE {schema}.{name};");
        }
        for (name, rows) in &held.0 {
            if !there.contains(name) {
                sql += &format!("CREATE TABLE {schema}.{name} (LIKE {schema}_empty.{name} INCLUDING ALL);");
            }
            let rows = rows.to_string().replace('\'', "''");
            sql += &format!(
                "DELETE FROM {schema}.{name};
                 INSERT INTO {schema}.{name} SELECT * FROM jsonb_populate_recordset(NULL::{schema}.{name}, '{rows}');"
            );
        }
        self.ask(&sql).map(drop)
    }
}

/// The newest batch in a table, and its rows.
pub fn sink(held: &Held, table: &str) -> (Option<u64>, Vec<String>) {
    let rows = |name: &str| held.0.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let of_table = rows(BATCHES).iter().filter(|row| row["name"] == table);
    let newest = of_table.filter_map(|row| row["batch"].as_u64()).max();
    // which batch wrote a row last depends on rewinds
    let mut without_batch = rows(table).to_vec();
    without_batch.iter_mut().filter_map(Value::as_object_mut).for_each(|row| {
        row.remove(OF_BATCH);
    });
    let mut rows: Vec<String> = without_batch.iter().map(Value::to_string).collect();
    rows.sort();
    (newest, rows)
}
