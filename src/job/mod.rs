//! A job file becomes a [`JobSpec`]: validated, plain data.
//!
//! In the order a job takes: `substitute` fills in `${NAME}`, `tokens` cuts the text into statements, `parse` reads
//! them one by one (`table` the columns, `options` the `WITH` list, `connectors` and `databases` what the options mean, `server` how
//! one is called, `received` what sources say that receive) and puts the job together; `keywords` finds the slip behind a syntax error;
//! `overlap` refuses a job that would read its own output.

mod connectors;
mod databases;
pub mod fingerprint;
mod format;
mod keywords;
mod names;
mod options;
mod overlap;
mod parse;
mod received;
mod server;
mod sink;
pub mod spec;
mod substitute;
mod table;
mod tokens;
mod types;
mod values;

pub use format::FILE_COLUMN;
pub use names::{nearest, nearest_function};
pub use parse::parse;
pub use received::{FORKED, HttpSpec, RECEIVED, ReceivedSpec, Sender, Token};
pub use server::{
    Address, Guarded, Layout, OptionsText, Patience, PostgresSpec, RedisSpec, ServerSpec, SslMode, overlap,
};
pub use sink::{CommandSpec, PlaceKind, RowFormat, SinkConnector, SinkPlace, SinkSpec};
pub use spec::*;
pub use substitute::Variables;
pub use types::nearest_type;
pub use values::{parse_duration, parse_size};

#[cfg(test)]
mod tests;
