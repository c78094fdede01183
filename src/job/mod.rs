//! A job file becomes a [`JobSpec`]: validated, plain data.

pub mod fingerprint;
pub mod spec;

pub use spec::*;
pub fn nearest<'a>(_w: &str, _c: impl IntoIterator<Item = &'a str>) -> Option<String> { None }
impl JobSpec { pub fn find_token(&self, _sql: &str, _at: At, _w: &str) -> Option<At> { None } }
