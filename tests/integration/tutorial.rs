//! docs/tutorial.md, command by command, on servers of its own: the demo starts them and `iotctl down` stops them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

crate::trials!(every_command_of_the_tutorial_runs_as_written);

const TUTORIAL: &str = include_str!("../../docs/tutorial.md");

/// What the page asks its reader to do, in order.
#[derive(Debug, PartialEq)]
enum Step {
    Run(String),
    /// A block that is to be saved under a name.
    Save(String, String),
}

/// The `$ ` lines of console blocks, and the blocks whose info string names a file (```toml hot.toml).
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match info.split_once(' ') {
            Some((_, name)) => steps.push(Step::Save(name.to_owned(), block.join("\n"))),
            None if info == "console" => {
                let commands = block.iter().filter_map(|line| line.strip_prefix("$ "));
                steps.extend(commands.map(|command| Step::Run(command.to_owned())));
            }
            None => {}
        }
    }
    steps
}

/// A command as this test runs it: the binary is built already, and the system set up.
fn runnable(command: &str) -> String {
    command.replace("tools/setup && cargo run -- ", "iotctl ")
}

/// The reader's shell: a folder, the binary on the path, and servers at an address that nothing else uses.
fn shell(folder: &Path, command: &str) -> anyhow::Result<String> {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_iotctl"));
    let path = format!(
        "{}:{}",
        binary.parent().context("the binary has a folder")?.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut shell = Command::new("bash");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("IOTCTL_") && name != "IOTCTL_JAVA")
    {
        shell.env_remove(name);
    }
    let output = shell
        .args(["-c", command])
        .current_dir(folder)
        .env("PATH", path)
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("IOTCTL_LOCAL_DATA_DIR", folder.join("servers"))
        .env("IOTCTL_LOCAL_ADDRESS", "127.0.46.1")
        .env("IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT", "17420")
        .env("IOTCTL_LOCAL_CASSANDRA_JMX_PORT", "17519")
        .env("IOTCTL_LOCAL_LEAST_FREE_DISK", "1MiB")
        .env("IOTCTL_LOCAL_BOOT_TIMEOUT", "15m")
        .env("IOTCTL_CASSANDRA_CONTACT_POINTS", "127.0.46.1:9042")
        .env("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", "127.0.46.1:9092")
        .output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "$ {command}\nended with {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

/// Stops the servers where a step failed before `iotctl down`.
struct Servers<'a>(&'a Path);

impl Drop for Servers<'_> {
    fn drop(&mut self) {
        let _ = shell(self.0, "iotctl -q down --purge --yes");
    }
}

fn every_command_of_the_tutorial_runs_as_written() -> anyhow::Result<()> {
    let steps = steps(TUTORIAL);
    ensure!(steps.len() > 15, "only {} steps were found", steps.len());
    let folder = tempfile::tempdir()?;
    let _servers = Servers(folder.path());
    let mut alerts = String::new();
    for step in &steps {
        match step {
            Step::Save(name, text) => std::fs::write(folder.path().join(name), text)?,
            Step::Run(command) => {
                let printed = shell(folder.path(), &runnable(command))?;
                if command.starts_with("iotctl alerts") {
                    alerts = printed;
                }
            }
        }
    }
    ensure!(alerts.contains("hot") && alerts.contains("firing"), "the rule did not fire:\n{alerts}");
    ensure!(folder.path().join("plant-1.svg").exists(), "the plot was not written");
    ensure!(shell(folder.path(), "iotctl status").is_err(), "the servers still answer after `iotctl down`");
    Ok(())
}
