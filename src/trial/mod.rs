//! The product tried on itself: demo, generate, crash-test.

pub mod generate;
