//! After a node has joined, the others still hold what they have handed over to it. That wastes disk, and is otherwise
//! harmless, until a cleanup rewrites their files. One node at a time, because each rewrites most of its files.

use std::process::Stdio;

use anyhow::{Context, bail};
use chrono::Utc;

use super::checks::{self, Refused};
use super::journal::Journal;
use super::nodetool;
use super::operator::Operator;
use super::runtime::Runtime;
use super::view::View;
use crate::error::Interrupted;
use crate::servers::local::progress::ProgressLines;

/// The names of the nodes that hold data which they no longer own.
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
    let board = ProgressLines::new(operator.output);
    for name in &names {
        let view = View::read(&operator.session).await?;
        Refused::unless_none(format!("cleanup of {name}"), checks::all_is_quiet(&view, None))?;
        // A node that has left since has nothing to clean up.
        let node = runtime.named(name)?;
        if view.member(node.ip()).is_some() {
            let step = board.step(name, "rewriting its files without the data that it no longer owns");
            let run =
                runtime.nodetool(&node, &["cleanup"]).stdout(Stdio::piped()).stderr(Stdio::piped()).output();
            let output = tokio::select! {
                output = run => output.context("cannot run nodetool")?,
                () = operator.shutdown.requested() => {
                    operator
                        .output
                        .note(format!("{name} continues its cleanup; run the command again for the other nodes"));
                    return Err(Interrupted.into());
                }
            };
            if !output.status.success() {
                bail!("{name} was not cleaned up: {}", nodetool::reason(&output));
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
