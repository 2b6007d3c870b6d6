//! The programs, with a deadline for each call.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::process::Command;
use tokio::time::timeout;

use super::Container;
use super::nodes::NodesFile;
use crate::config::DockerConfig;
use crate::error::UsageError;

/// For what an engine answers from what it knows.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// For what starts or stops a container.
const ACTION_DEADLINE: Duration = Duration::from_secs(180);

/// A compose project.
#[derive(Debug, Clone)]
pub struct Compose {
    file: PathBuf,
    project: String,
    /// `docker compose`, or `docker-compose`.
    program: Vec<&'static str>,
}

impl Compose {
    /// # Errors
    /// A usage error that says what is missing: the compose file, the programs, an engine.
    pub async fn open(config: &DockerConfig) -> anyhow::Result<Self> {
        let file = config.compose_file();
        if !file.is_file() {
            return Err(UsageError::new(format!(
                "there is no {} (run it in iotctl's source folder, or set docker.compose_file)",
                file.display()
            ))
            .into());
        }
        let file =
            std::path::absolute(&file).with_context(|| format!("cannot resolve {}", file.display()))?;
        let mut docker = Command::new("docker");
        docker.args(["version", "--format", "{{.Server.Version}}"]);
        output(docker, "docker version", ANSWER_DEADLINE)
            .await
            .context("no Docker engine can be asked (install docker and start it, or set DOCKER_HOST)")?;
        let mut program = None;
        for words in [&["docker", "compose"][..], &["docker-compose"][..]] {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg("version");
            if output(command, "compose version", ANSWER_DEADLINE).await.is_ok() {
                program = Some(words.to_vec());
                break;
            }
        }
        let Some(program) = program else {
            bail!(UsageError::new(
                "neither `docker compose` nor `docker-compose` is here (Debian: apt install docker-compose)"
            ))
        };
        Ok(Self { file, project: config.project.clone(), program })
    }

    /// The folder of the compose file, with its .env.
    pub fn dir(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("."))
    }

    pub fn nodes_file(&self) -> anyhow::Result<NodesFile> {
        NodesFile::load(&self.dir().join(NodesFile::NAME))
    }

    /// `docker compose` for this project, with both files.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program[0]);
        command.args(&self.program[1..]).arg("-p").arg(&self.project).arg("-f").arg(&self.file);
        let nodes = self.dir().join(NodesFile::NAME);
        if nodes.is_file() {
            command.arg("-f").arg(nodes);
        }
        command.args(arguments).current_dir(self.dir()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a short `docker compose` command.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let what = format!("docker compose {}", arguments.join(" "));
        output(self.command(arguments), &what, ACTION_DEADLINE).await.map(|_| ())
    }

    /// `docker` with these arguments; what it prints.
    pub async fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        command.args(arguments);
        let what = format!("docker {}", arguments.first().copied().unwrap_or_default());
        output(command, &what, ACTION_DEADLINE).await
    }

    /// All containers of the project, running or not.
    pub async fn containers(&self) -> anyhow::Result<Vec<Container>> {
        let filter = format!("label=com.docker.compose.project={}", self.project);
        let ids = self.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &filter]).await?;
        let ids: Vec<_> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // One that is gone by now makes `inspect` fail, and the next look tells.
        let text = self.docker(&[&["inspect"][..], &ids].concat()).await?;
        Container::parse(&text)
    }
}

async fn output(mut command: Command, what: &str, limit: Duration) -> anyhow::Result<String> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(limit, command.output()).await {
        Ok(output) => output.with_context(|| format!("cannot run {what}"))?,
        Err(_) => bail!("{what} did not end within {}", humantime::format_duration(limit)),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    let reason = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it does not say why");
    ensure!(output.status.success(), "{what} failed: {reason}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
