//! The page that shows what a job does, and its figures for programs.

pub mod board;
