//! All containers up, and each of them healthy.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::time::sleep;

use super::Compose;
use super::container::{Container, Readiness};
use crate::error::Interrupted;
use crate::output::Output;
use crate::servers::local::progress::ProgressLines;
use crate::shutdown::Shutdown;

const POLL: Duration = Duration::from_secs(2);
/// Compose waits for the health of what others depend on, and may have images to fetch and to build before.
const COMPOSE_DEADLINE: Duration = Duration::from_secs(3600);
/// After that, all that is left is to become healthy.
const HEALTH_DEADLINE: Duration = Duration::from_secs(600);

/// Starts what does not run, and waits until all is well. Compose shows on stderr what it does. An interrupted run leaves
/// what it has started: run again, it goes on.
pub async fn up(compose: &Compose, output: Output, shutdown: &Shutdown) -> anyhow::Result<Vec<Container>> {
    let mut command = compose.command(&["up", "-d", "--remove-orphans"]);
    command.stdout(Stdio::null());
    if output.quiet {
        command.stderr(Stdio::null());
    }
    let mut child = command.spawn().context("cannot run docker compose")?;
    let status = tokio::select! {
        status = child.wait() => status?,
        () = sleep(COMPOSE_DEADLINE) => bail!("docker compose up did not end within an hour"),
        () = shutdown.requested() => return Err(Interrupted.into()),
    };
    ensure!(
        status.success(),
        "docker compose up failed (what it printed says why; `docker compose logs` has more)"
    );
    let board = ProgressLines::new(output);
    let started = Instant::now();
    let mut steps = BTreeMap::new();
    loop {
        let containers = compose.containers().await?;
        for container in &containers {
            let service = container.service().to_owned();
            let step =
                steps.entry(service).or_insert_with_key(|service| Some(board.step(service, "starting")));
            match container.readiness() {
                Readiness::Ready => {
                    if let Some(step) = step.take() {
                        step.done(&container.describe());
                    }
                }
                Readiness::Waiting => {
                    if let Some(step) = step {
                        step.set(container.describe());
                    }
                }
                Readiness::Failed(code) => bail!(
                    "{0} ended with {code} (see `docker logs {1}`)",
                    container.service(),
                    container.short_id()
                ),
            }
        }
        if !containers.is_empty() && steps.values().all(Option::is_none) {
            return Ok(containers);
        }
        let waiting: Vec<_> =
            steps.iter().filter(|(_, step)| step.is_some()).map(|(name, _)| name.as_str()).collect();
        ensure!(
            started.elapsed() < HEALTH_DEADLINE,
            "{} did not become healthy within {} (see `docker compose logs`)",
            waiting.join(", "),
            humantime::format_duration(HEALTH_DEADLINE)
        );
        tokio::select! {
            () = sleep(POLL) => {}
            () = shutdown.requested() => return Err(Interrupted.into()),
        }
    }
}

/// Stops and removes the containers; the volumes with all data only where that is asked for.
pub async fn down(compose: &Compose, with_volumes: bool) -> anyhow::Result<()> {
    compose
        .run(if with_volumes {
            &["down", "--remove-orphans", "--volumes"]
        } else {
            &["down", "--remove-orphans"]
        })
        .await
}
