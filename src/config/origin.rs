//! The source of a value.

use std::fmt;
use std::path::PathBuf;

/// The source of a value, in rising precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        /// Starts at 1.
        line: usize,
    },
    /// The variable's name.
    Environment(String),
    /// The flag as typed.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line } => write!(out, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(out, "variable {variable}"),
            Self::Flag(flag) => write!(out, "flag {flag}"),
        }
    }
}
