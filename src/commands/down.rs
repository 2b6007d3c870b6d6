//! `iotctl down`.

use clap::Args;

use super::Context;
use super::flags::PlaceArgs;
use crate::error::{Interrupted, UsageError};
use crate::servers::docker::{self, Compose};
use crate::servers::local::process::Ended;
use crate::servers::local::{self, Stopped};

/// Stop the servers that `up` started.
///
/// Data and logs are kept, unless --purge.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl down
  iotctl down --docker
  iotctl down --purge --yes     # delete all readings and logs as well")]
pub struct DownArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Stop the containers of docker-compose.yml
    #[arg(long, conflicts_with = "data")]
    pub docker: bool,
    /// Delete data and logs as well; needs --yes
    #[arg(long)]
    pub purge: bool,
    /// Confirm --purge
    #[arg(long, requires = "purge")]
    pub yes: bool,
}

pub async fn run(args: DownArgs, context: Context) -> anyhow::Result<()> {
    if args.docker {
        return containers(&args, &context).await;
    }
    let config = args.place.configure(&context.config.local);
    if args.purge && !args.yes {
        let dir = local::layout::Layout::of(&config)?;
        return Err(UsageError::new(format!(
            "--purge deletes {} with all readings in it (add --yes to confirm)",
            dir.root().display()
        ))
        .into());
    }
    let spinner = context.output.spinner("stopping the servers");
    let stopped = tokio::select! {
        stopped = local::down(&config) => stopped,
        () = context.shutdown.requested() => Err(Interrupted.into()),
    };
    spinner.finish_and_clear();
    let stopped = stopped?;
    if stopped.is_empty() {
        context.output.note("nothing is running");
    }
    for server in &stopped {
        context.output.print(line(server))?;
    }
    if args.purge {
        let dir = local::layout::Layout::of(&config)?;
        match local::purge(&config)? {
            true => context.output.print(format!("deleted {}", dir.root().display()))?,
            false => context.output.note(format!("{} does not exist", dir.root().display())),
        }
    } else if !stopped.is_empty() {
        context.output.note("data and logs are kept; `iotctl up` uses them again");
    }
    Ok(())
}

async fn containers(args: &DownArgs, context: &Context) -> anyhow::Result<()> {
    if args.purge && !args.yes {
        return Err(UsageError::new(
            "--purge deletes the project's volumes with all readings in them (add --yes to confirm)",
        )
        .into());
    }
    let compose = Compose::open(&context.config.docker).await?;
    let spinner = context.output.spinner("stopping the containers");
    let stopped = tokio::select! {
        stopped = docker::down(&compose, args.purge) => stopped,
        () = context.shutdown.requested() => Err(Interrupted.into()),
    };
    spinner.finish_and_clear();
    stopped?;
    context.output.note(match args.purge {
        true => "containers and volumes are removed",
        false => "containers are removed, volumes are kept; `iotctl up --docker` uses them again",
    });
    Ok(())
}

fn line(Stopped { name, pid, ended }: &Stopped) -> String {
    match ended {
        Ended::OnTerm => format!("stopped {name} (pid {pid})"),
        Ended::OnKill => format!("killed {name} (pid {pid}), which did not stop on SIGTERM"),
        Ended::Before => format!("{name} (pid {pid}) was not running"),
    }
}
