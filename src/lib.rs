//! Highwater runs SQL streaming jobs over files **exactly once**, in one binary.
//!
//! One trigger takes one micro-batch, and one atomic, durable commit says together which input was read, what the
//! aggregate state is after it, and what the sinks may publish. A job that is killed anywhere resumes as if nothing had
//! happened. Every committed batch is an address: its result can be queried, compared, verified and resumed from.
//!
//! It is not a distributed engine (the same job file means the same on Apache Spark), not a database, and no
//! general ETL tool: what cannot be run incrementally is refused before anything is touched.
//!
//! # The life of a batch
//!
//! [`batch`] is the only module that knows this order:
//!
//! 1. **plan**: the next input within the limits, and the batch's time ([`source`], pure)
//! 2. **intend**: the plan becomes durable, where something outside the checkpoint depends on it ([`checkpoint`])
//! 3. **read**: files become Arrow record batches, only the columns that are needed ([`format`](mod@format))
//! 4. **step**: partial aggregation gives the batch's delta, merged into columnar state ([`query`], [`state`])
//! 5. **stage**: sinks write what they will publish, durable and invisible ([`sink`])
//! 6. **commit**: offsets, deltas and staged outputs in one atomic write; the batch has happened ([`checkpoint`])
//! 7. **publish**: with the permit that only a commit can give ([`sink`])
//! 8. **report** ([`progress`])
//!
//! # The modules, in the order in which data flows
//!
//! [`job`] (a job file becomes plain data), [`source`], [`format`](mod@format), [`query`], [`state`], [`checkpoint`], [`sink`],
//! [`batch`], [`progress`]; [`model`] at the bottom, [`cli`], [`ui`] and [`trial`] at the top.

// Docs are read beside the code: a link to a private item is a help there.
#![allow(rustdoc::private_intra_doc_links)]

pub mod batch;
pub mod checkpoint;
pub mod cli;
pub mod format;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod job;
pub mod model;
pub mod progress;
pub mod query;
pub mod sink;
pub mod source;
pub mod state;
pub mod trial;
pub mod ui;
