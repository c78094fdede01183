//! What the operator is told while a job runs.

use std::fmt;

/// Something the operator should know, one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub text: String,
    /// Whether it is said even where nothing but warnings and errors is.
    pub is_warning: bool,
}

impl Notice {
    /// What goes as it should.
    pub fn news(text: String) -> Notice {
        Notice { text, is_warning: false }
    }
}

/// A warning.
impl From<String> for Notice {
    fn from(text: String) -> Notice {
        Notice { text, is_warning: true }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
