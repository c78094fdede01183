//! The PostgreSQL sink: a table of a database on a server.
//!
//! - `connection`: how the server is called, and a statement waited for; `tls`: whom it is taken for
//! - `database`: transactions, done again on another connection where the first was lost
//! - `failure`: what the server, or the way to it, says, as something to deal with
//! - `catalog`: what a table is that is there; `keys`: by which rows replace one another
//! - `table`: the statements; `values` and `rows`: what `COPY` is given, which reading it back gives again

mod catalog;
mod connection;
mod database;
mod failure;
mod keys;
mod rows;
mod table;
mod tls;
mod values;

use super::table::TableSink;

/// A sink that writes to a table of a PostgreSQL database.
pub(super) type PostgresSink = TableSink<database::Database>;
