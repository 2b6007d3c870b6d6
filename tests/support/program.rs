//! `iotctl` with settings of its own, without any configuration of the user's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use anyhow::ensure;
use serde_json::Value;

/// Arguments of a command: a list, or one line that is split at its blanks. A part in single quotes stays whole:
/// `"query --where 'temperature > 24'"`.
pub trait Words {
    fn words(&self) -> Vec<String>;
}

impl Words for &str {
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in self.split('\'').enumerate() {
            match index % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }
}

impl Words for &String {
    fn words(&self) -> Vec<String> {
        self.as_str().words()
    }
}

impl<S: AsRef<str>> Words for &[S] {
    fn words(&self) -> Vec<String> {
        self.iter().map(|word| word.as_ref().to_owned()).collect()
    }
}

impl<S: AsRef<str>, const N: usize> Words for &[S; N] {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

impl<S: AsRef<str>> Words for &Vec<S> {
    fn words(&self) -> Vec<String> {
        self.as_slice().words()
    }
}

/// The program with its settings, as environment variables.
#[derive(Debug, Clone)]
pub struct Program {
    settings: BTreeMap<String, String>,
}

impl Program {
    pub fn new<N: Into<String>, V: Into<String>>(settings: impl IntoIterator<Item = (N, V)>) -> Self {
        // A loaded machine is no reason for a test to fail.
        let mut all = BTreeMap::from([("IOTCTL_LOCAL_BOOT_TIMEOUT".to_owned(), "15m".to_owned())]);
        all.extend(settings.into_iter().map(|(name, value)| (name.into(), value.into())));
        Self { settings: all }
    }

    /// Another setting, such as ("IOTCTL_SCHEMA_BUCKET", "5m").
    pub fn set(&mut self, variable: &str, value: &str) {
        self.settings.insert(variable.into(), value.into());
    }

    /// The program without a setting.
    pub fn unset(&mut self, variable: &str) {
        self.settings.remove(variable);
    }

    /// The value of a setting that has been set.
    pub fn setting(&self, variable: &str) -> &str {
        &self.settings[variable]
    }

    pub fn command(&self, arguments: impl Words) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iotctl"));
        let inherited = std::env::vars()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("IOTCTL_") && name != "IOTCTL_JAVA");
        for name in inherited {
            command.env_remove(name);
        }
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        command.current_dir(&home).env("XDG_CONFIG_HOME", home.join("config")).stdin(Stdio::null());
        command.envs(&self.settings).args(arguments.words());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: impl Words) -> anyhow::Result<Finished> {
        Ok(self.command(arguments).output()?.into())
    }

    /// Runs a command that must succeed and returns its stdout.
    pub fn ok(&self, arguments: impl Words) -> anyhow::Result<String> {
        let words = arguments.words();
        let finished = self.run(&words)?;
        ensure!(finished.code == Some(0), "iotctl {} failed: {finished:#?}", words.join(" "));
        Ok(finished.stdout)
    }

    /// Ends the servers of its data folder, where there are any, and deletes their data.
    pub fn purge(&self) -> anyhow::Result<()> {
        self.ok("-q down --purge --yes").map(|_| ())
    }

    /// Runs a command that must fail with `code` and returns its stderr, which must be one line beside its notes.
    pub fn fails(&self, code: i32, arguments: impl Words) -> anyhow::Result<String> {
        let words = arguments.words();
        let finished = self.run(&words)?;
        ensure!(finished.code == Some(code), "iotctl {} should exit {code}: {finished:#?}", words.join(" "));
        let lines: Vec<_> = finished.stderr.lines().filter(|line| !line.starts_with("note:")).collect();
        ensure!(lines.len() == 1, "the error should be one line: {}", finished.stderr);
        Ok(finished.stderr)
    }

    /// The JSON that a command prints.
    pub fn json(&self, arguments: impl Words) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.ok(arguments)?)?)
    }

    /// NDJSON lines of a command's stdout.
    pub fn lines(&self, arguments: impl Words) -> anyhow::Result<Vec<Value>> {
        self.ok(arguments)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Starts a command that runs beside the test.
    pub fn spawn(&self, arguments: impl Words) -> anyhow::Result<Running> {
        let child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Running(child))
    }

    /// Starts a command that may open only so many file descriptors, by the shell's `ulimit`.
    pub fn spawn_with_descriptors(&self, limit: u32, arguments: impl Words) -> anyhow::Result<Running> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\""));
        let mut shell = through(shell, &self.command(arguments));
        Ok(Running(shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

/// A command that is the last arguments of another, such as setsid.
pub fn through(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    with_settings_of(outer, inner)
}

/// A command with the environment and the folder of another.
pub fn with_settings_of(mut outer: Command, inner: &Command) -> Command {
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(folder) = inner.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}

/// A finished command.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command that is killed when the test is done with it.
pub struct Running(Child);

impl Running {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Such as SIGSTOP.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> anyhow::Result<()> {
        Ok(nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(self.0.id())?), signal)?)
    }

    /// SIGTERM; returns the exit code.
    pub fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        self.signal(nix::sys::signal::Signal::SIGTERM)?;
        Ok(self.0.wait()?.code())
    }

    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
