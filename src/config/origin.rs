//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from, in rising precedence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        /// From 1.
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
