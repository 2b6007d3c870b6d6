//! The only writer to stdout. Results go to stdout; progress, notes and errors go to stderr, so that pipes work.

use std::io::{self, BufRead as _, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;

use crate::error::{OutputClosed, UsageError};

pub mod cell;
mod ids;
mod layout;
pub mod log;
pub mod number;
pub mod progress;
pub mod record;
pub mod table;
pub mod text;

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people: aligned columns, units in the headings.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180 with a heading line.
    Csv,
}

/// How a report of fixed shape is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ReportFormat {
    /// For people: aligned columns.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a colour says: red for problems, yellow for warnings, green for what is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Red,
    Green,
    Yellow,
    Bold,
    Dim,
}

/// Where and how a command prints. Cheap to clone; one per process.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    pub quiet: bool,
    pub stdout_is_terminal: bool,
    pub stderr_is_terminal: bool,
    pub color: bool,
}

impl Output {
    pub fn new(color: ColorChoice, quiet: bool) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let stderr_is_terminal = io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => stdout_is_terminal && !no_color,
        };
        Self { quiet, stdout_is_terminal, stderr_is_terminal, color }
    }

    /// Buffered stdout for a result of many lines. Flush it; where the reader has closed it, that returns [`OutputClosed`].
    pub fn stream(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::with_capacity(64 * 1024, io::stdout().lock())
    }

    /// Prints one block of text and a line end to stdout.
    pub fn print(&self, text: impl AsRef<str>) -> anyhow::Result<()> {
        let mut stdout = self.stream();
        closed(stdout.write_all(text.as_ref().as_bytes()))?;
        closed(stdout.write_all(b"\n"))?;
        closed(stdout.flush())
    }

    /// A text that begins at the column `indent`, in lines of the terminal that begin there too. It is broken at blanks, but not
    /// within backticks, so that a command can be copied. Without a terminal it is one line.
    pub fn hanging(&self, text: &str, indent: usize) -> String {
        match table::terminal_width().filter(|_| self.stdout_is_terminal) {
            Some(terminal) => text::hanging(text, indent, terminal.into()),
            None => text.to_owned(),
        }
    }

    /// Prints a value as an indented JSON document to stdout.
    pub fn json(&self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.print(serde_json::to_string_pretty(value)?)
    }

    /// Clears the terminal, for a result that replaces the previous one.
    pub fn clear(&self) -> anyhow::Result<()> {
        let mut stdout = self.stream();
        closed(stdout.write_all(b"\x1b[H\x1b[2J\x1b[3J"))?;
        closed(stdout.flush())
    }

    /// `text` in a colour, if colours are on.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Red => 31,
            Paint::Green => 32,
            Paint::Yellow => 33,
            Paint::Bold => 1,
            Paint::Dim => 2,
        };
        match self.color {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint(Paint::Bold, text)
    }

    /// A remark for people, on stderr; silenced by `--quiet`. What it quotes from outside cannot steer the terminal.
    pub fn note(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.print_remark(text);
        }
    }

    /// A line on stderr that is printed even with `--quiet`.
    pub fn print_remark(&self, text: impl AsRef<str>) {
        // A closed stderr must not end the work.
        let _ = writeln!(io::stderr(), "{}", self.remark(&text::visible_lines(text.as_ref())));
    }

    /// Lines for stderr, broken between words on a terminal.
    fn remark(&self, text: &str) -> String {
        match self.stderr_is_terminal {
            true => text.lines().map(|line| self.hanging(line, 0)).collect::<Vec<_>>().join("\n"),
            false => text.to_owned(),
        }
    }

    /// Asks on stderr, even with `--quiet`, whether to do `what`. Only `y` and `yes` confirm it.
    ///
    /// # Errors
    /// A usage error where stdin is not a terminal.
    pub fn confirm(&self, what: &str) -> anyhow::Result<bool> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Err(UsageError::new(format!(
                "cannot ask whether to {what}, because stdin is not a terminal (add --yes)"
            ))
            .into());
        }
        let mut stderr = io::stderr();
        let _ = write!(stderr, "{}? [y/N] ", text::visible(what)).and_then(|()| stderr.flush());
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }

    /// The one line that ends a failed command, on stderr.
    pub fn failure(&self, error: &anyhow::Error) {
        let text = format!("error: {error:#}");
        let _ = writeln!(io::stderr(), "{}", self.remark(&text::visible_lines(&text)));
    }
}

/// Turns a closed pipe into [`OutputClosed`], which is no failure, and keeps every other error.
pub fn closed<T>(result: io::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => OutputClosed.into(),
        _ => anyhow::Error::new(error).context("cannot write to stdout"),
    })
}
