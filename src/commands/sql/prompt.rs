//! The prompt: lines with editing, a history that is kept, and completion of words.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Editor, Helper};
use tokio::sync::oneshot;

/// Lines that the history keeps.
const HISTORY: usize = 1_000;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(String),
    /// Ctrl-C: the statement that has begun is forgotten.
    Interrupted,
    /// Ctrl-D, or the end of the input.
    End,
}

/// An editor on a thread of its own, because it waits for keys.
pub(super) struct Prompt {
    requests: Sender<Request>,
}

enum Request {
    Line { is_continued: bool, answer: oneshot::Sender<anyhow::Result<Line>> },
    Remember(String),
}

impl Prompt {
    /// `words` are completed, beside those of SQL.
    pub(super) fn start(words: Vec<String>) -> anyhow::Result<Self> {
        let (requests, received) = channel();
        std::thread::Builder::new()
            .name("prompt".to_owned())
            .spawn(move || serve(&received, words))
            .context("cannot start the prompt")?;
        Ok(Self { requests })
    }

    pub(super) async fn next(&self, is_continued: bool) -> anyhow::Result<Line> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Line { is_continued, answer }).context("the prompt has ended")?;
        answered.await.context("the prompt has ended")?
    }

    /// Keeps a statement in the history.
    pub(super) fn remember(&self, statement: &str) {
        // Without its editor there is no prompt either.
        let _ = self.requests.send(Request::Remember(statement.to_owned()));
    }
}

fn serve(requests: &Receiver<Request>, words: Vec<String>) {
    let mut editor = editor(words);
    let history = history_file();
    if let (Ok(editor), Some(path)) = (&mut editor, &history) {
        // There is none at first.
        let _ = editor.load_history(path);
    }
    while let Ok(request) = requests.recv() {
        match (request, &mut editor) {
            (Request::Line { answer, .. }, Err(error)) => {
                let _ = answer.send(Err(anyhow::anyhow!("cannot start the prompt: {error}")));
            }
            (Request::Line { is_continued, answer }, Ok(editor)) => {
                let line = match editor.readline(if is_continued { "   ...> " } else { "iotctl> " }) {
                    Ok(line) => Ok(Line::Text(line)),
                    Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                    Err(ReadlineError::Eof) => Ok(Line::End),
                    Err(error) => Err(anyhow::Error::new(error).context("cannot read from the terminal")),
                };
                let _ = answer.send(line);
            }
            (Request::Remember(statement), Ok(editor)) => {
                // A history that cannot be kept must not stop the work.
                let is_new = editor.add_history_entry(&statement).unwrap_or(false);
                if let Some(path) = history.as_deref().filter(|_| is_new) {
                    let _ = append(path, editor);
                }
            }
            (Request::Remember(_), Err(_)) => {}
        }
    }
}

fn editor(words: Vec<String>) -> rustyline::Result<Editor<Words, DefaultHistory>> {
    let config = Config::builder()
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .completion_type(CompletionType::List)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Words::new(words)));
    Ok(editor)
}

fn history_file() -> Option<PathBuf> {
    let folders = directories::ProjectDirs::from("", "", "iotctl")?;
    Some(folders.data_local_dir().join("sql_history"))
}

/// Adds to the file what is new: other prompts may write to it too. It is readable by its user only.
fn append(path: &Path, editor: &mut Editor<Words, DefaultHistory>) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    editor.append_history(path)?;
    Ok(())
}

const OF_SQL: &str = "SELECT FROM WHERE GROUP BY ORDER LIMIT HAVING AND OR NOT IN BETWEEN LIKE IS NULL AS JOIN LEFT USING ON \
                      DISTINCT EXPLAIN ANALYZE ASC DESC COPY TO SET OVER PARTITION WITH UNION ALL CASE WHEN THEN ELSE END \
                      INTERVAL count sum avg min max stddev first last delta increase rate time_weighted_average \
                      approx_percentile histogram time_bucket time_bucket_gapfill locf interpolate date_trunc date_bin metric \
                      state tag now iotctl.rollups .tables .schema .timing .help .quit";

/// Words that can be completed.
struct Words(Vec<String>);

impl Words {
    fn new(mut words: Vec<String>) -> Self {
        words.extend(OF_SQL.split_whitespace().map(str::to_owned));
        words.sort_unstable();
        words.dedup();
        Self(words)
    }

    /// Where the word before `at` begins, and what it may become: as it was written where nothing else is said.
    fn complete(&self, line: &str, at: usize) -> (usize, Vec<String>) {
        let is_part = |letter: char| letter.is_alphanumeric() || ['_', '.', '"'].contains(&letter);
        let before = &line[..at];
        let start = before
            .rfind(|letter| !is_part(letter))
            .map_or(0, |index| index + before[index..].chars().next().map_or(1, char::len_utf8));
        let begun = &before[start..];
        if begun.is_empty() {
            return (at, Vec::new());
        }
        // Of a column with its table, the column.
        let (table, begun) = match begun.rsplit_once('.') {
            Some((table, column)) if !table.is_empty() && !begun.starts_with("iotctl.") => {
                (table.len() + 1, column)
            }
            _ => (0, begun),
        };
        let lower = begun.to_lowercase();
        let found = self.0.iter().filter(|word| word.to_lowercase().starts_with(&lower)).cloned().collect();
        (start + table, found)
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.complete(line, at))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed_in_any_case_and_columns_after_their_table() {
        let words = Words::new(vec!["readings".to_owned(), "recorded_timestamp".to_owned()]);
        let complete = |line: &str| words.complete(line, line.len());
        assert_eq!(complete("SELECT * FROM READ"), (14, vec!["readings".to_owned()]));
        assert_eq!(complete("SELECT r.rec"), (9, vec!["recorded_timestamp".to_owned()]));
        assert_eq!(complete(".sch"), (0, vec![".schema".to_owned()]));
        assert_eq!(complete("SET iotctl.ro"), (4, vec!["iotctl.rollups".to_owned()]));
        assert_eq!(complete("SELECT 'ö"), (8, Vec::new()));
        assert_eq!(complete("SELECT "), (7, Vec::new()));
    }
}
