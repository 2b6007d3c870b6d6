//! Receivers that are told by a program of the operator: JSON on its standard input.

use std::process::Stdio;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Failure;
use crate::alerting::delivery::notification::Notification;
use crate::alerting::delivery::receivers::RawCommand;

/// Bytes of its standard error that are kept.
const MOST_SHOWN: u64 = 2_048;
/// `EX_USAGE` and `EX_DATAERR` of sysexits.h: the same input would fail again.
const REFUSED: [i32; 2] = [64, 65];

/// A program, in a process group of its own.
#[derive(Debug)]
pub(in crate::alerting::delivery) struct Command {
    program: String,
    arguments: Vec<String>,
}

/// Ends the process group when the attempt is over, also by its deadline: the program may have started others.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Command {
    pub(super) fn check(raw: RawCommand) -> Result<Self, String> {
        let mut words = raw.run.into_iter();
        let program = words.next().filter(|program| !program.is_empty());
        Ok(Self { program: program.ok_or("command.run needs a program")?, arguments: words.collect() })
    }

    pub(super) async fn send(&self, notification: &Notification<'_>) -> Result<(), Failure> {
        let input = serde_json::to_vec(&notification.json()).unwrap_or_default();
        let unavailable = |error: std::io::Error| Failure::Unavailable(format!("{}: {error}", self.program));
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let mut group = Group(id.map(Pid::from_raw));
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that does not read all of it decides by its status.
                let _ = stdin.write_all(&input).await;
                let _ = stdin.shutdown().await;
            }
        };
        let read = async {
            let mut said = Vec::new();
            if let Some(stderr) = stderr {
                let mut stderr = stderr.take(MOST_SHOWN);
                let _ = stderr.read_to_end(&mut said).await;
                // The rest is read so that the program does not wait for it.
                let _ = tokio::io::copy(&mut stderr.into_inner(), &mut tokio::io::sink()).await;
            }
            String::from_utf8_lossy(&said).trim().to_owned()
        };
        let (status, (), said) = tokio::join!(child.wait(), write, read);
        // What it left running, on purpose, goes on.
        group.0 = None;
        let status = status.map_err(unavailable)?;
        if status.success() {
            return Ok(());
        }
        let said = match said.as_str() {
            "" => format!("{}: {status}", self.program),
            said => format!("{}: {status}: {said}", self.program),
        };
        match status.code() {
            Some(code) if REFUSED.contains(&code) => Err(Failure::Refused(said)),
            _ => Err(Failure::Unavailable(said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::Channel;
    use super::*;
    use crate::alerting::alert::{State, example};

    async fn run(script: &str) -> Result<(), Failure> {
        let run = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let channel = Channel::command(RawCommand { run }).unwrap();
        let alert = example("hot", 1, State::Firing, 1);
        let notification = Notification { receiver: "pager", group: &Vec::new(), alerts: vec![&alert] };
        channel.send(&notification, Duration::from_millis(700)).await
    }

    #[tokio::test]
    async fn a_program_reads_the_notification_and_decides_by_its_status() {
        assert_eq!(run("grep -q '\"receiver\":\"pager\"'").await, Ok(()));
        assert_eq!(run("exit 0").await, Ok(()));
        assert!(
            matches!(run("echo why >&2; exit 65").await, Err(Failure::Refused(why)) if why.ends_with(": why"))
        );
        assert!(matches!(run("exit 1").await, Err(Failure::Unavailable(_))));
        assert!(matches!(run("kill -9 $$").await, Err(Failure::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let began = Instant::now();
        let hangs = run(&format!("(sleep 2; touch {}) & sleep 60", mark.display())).await;
        assert!(matches!(hangs, Err(Failure::Unavailable(why)) if why.contains("no answer within 700ms")));
        assert!(began.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(2_300)).await;
        assert!(!mark.exists(), "what it started goes on");
    }
}
