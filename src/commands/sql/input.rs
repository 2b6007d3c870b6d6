//! Where statements come from: the command line, standard input, or a prompt.

use std::collections::VecDeque;

use super::prompt::{Line, Prompt};

pub(super) enum Input {
    /// The lines that are left of a text.
    Text(VecDeque<String>),
    Standard,
    Prompt(Prompt),
}

impl Input {
    pub(super) fn of_text(text: &str) -> Self {
        Self::Text(text.lines().map(str::to_owned).collect())
    }

    pub(super) fn is_prompt(&self) -> bool {
        matches!(self, Self::Prompt(_))
    }

    /// The next line; `is_continued` within a statement.
    pub(super) async fn next(&mut self, is_continued: bool) -> anyhow::Result<Line> {
        match self {
            Self::Text(lines) => Ok(lines.pop_front().map_or(Line::End, Line::Text)),
            Self::Standard => {
                // On a thread of its own: a pipe may have nothing for hours.
                let read = tokio::task::spawn_blocking(|| {
                    let mut line = String::new();
                    std::io::stdin().read_line(&mut line).map(|bytes| (bytes > 0).then_some(line))
                });
                let line = read.await??;
                Ok(line.map_or(Line::End, |line| Line::Text(line.trim_end_matches(['\n', '\r']).to_owned())))
            }
            Self::Prompt(prompt) => prompt.next(is_continued).await,
        }
    }
}
