//! After a node has joined, the others still hold what they have handed to it: harmless, and disk that is wasted, until
//! a cleanup rewrites their files. One node at a time, as each rewrites much.

use std::process::Stdio;

use anyhow::{Context, bail};
use chrono::Utc;

use super::checks::{self, Refused};
use super::journal::Journal;
use super::operator::Operator;
use super::runtime::Runtime;
use super::view::View;
use crate::error::Interrupted;
use crate::servers::local::progress::Board;

/// The names of the nodes with data that is not theirs any more.
pub fn due(journals: &[Journal]) -> Vec<String> {
    let due = journals.iter().flat_map(|journal| &journal.record.cleanup).filter(|due| due.done_at.is_none());
    let mut names: Vec<_> = due.map(|due| due.node.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// Cleans every node that is due. Returns their names.
pub async fn cleanup(operator: &Operator, runtime: &Runtime) -> anyhow::Result<Vec<String>> {
    let mut journals = Journal::all(&operator.journals)?;
    let names = due(&journals);
    let board = Board::new(operator.output);
    for name in &names {
        let view = View::read(&operator.session).await?;
        Refused::unless_none(format!("cleaning {name} up"), checks::all_is_quiet(&view, None))?;
        // One that has left since has nothing to clean.
        let node = runtime.named(name)?;
        if view.member(node.ip()).is_some() {
            let step = board.step(name, "rewriting its files without what it owns no more");
            let run =
                runtime.nodetool(&node, &["cleanup"]).stdout(Stdio::null()).stderr(Stdio::piped()).output();
            let output = tokio::select! {
                output = run => output.context("cannot run nodetool")?,
                () = operator.shutdown.requested() => {
                    operator.output.note(format!("{name} goes on with it; run it again for the rest"));
                    return Err(Interrupted.into());
                }
            };
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                bail!(
                    "{name} was not cleaned up: {}",
                    said.lines().next().unwrap_or("nodetool does not say why")
                );
            }
            step.done("cleaned up");
        }
        for journal in &mut journals {
            let mut is_changed = false;
            for due in
                journal.record.cleanup.iter_mut().filter(|due| due.node == *name && due.done_at.is_none())
            {
                due.done_at = Some(Utc::now());
                is_changed = true;
            }
            if is_changed {
                journal.save()?;
            }
        }
    }
    Ok(names)
}
