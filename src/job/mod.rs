//! A job file becomes a [`JobSpec`]: validated, plain data.

pub mod fingerprint;
pub mod spec;

pub use spec::*;
