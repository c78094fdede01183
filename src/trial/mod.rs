//! The product tried on itself: demo, generate, crash-test. Nothing here prints; lines go to a callback.

mod chance;
mod child;
pub mod crash_test;
pub mod demo;
pub mod generate;
mod redirect;
