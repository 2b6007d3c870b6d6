//! `iotctl down`.

use clap::Args;

use super::Context;
use super::flags::PlaceArgs;
use crate::error::{Interrupted, UsageError};
use crate::servers::docker::{self, Compose};
use crate::servers::local::process::Ended;
use crate::servers::local::{self, Stopped};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl down
  iotctl down --docker
  iotctl down --purge --yes     # and delete all readings with the logs")]
pub struct DownArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// The containers of docker-compose.yml
    #[arg(long, conflicts_with = "data")]
    pub docker: bool,
    /// Delete the data and the logs too; needs --yes
    #[arg(long)]
    pub purge: bool,
    /// Yes, delete them
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
            "--purge deletes {} with all readings in it (add --yes if that is meant)",
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
            false => context.output.note(format!("{} is not there", dir.root().display())),
        }
    } else if !stopped.is_empty() {
        context.output.note("data and logs stay; `iotctl up` starts on them again");
    }
    Ok(())
}

async fn containers(args: &DownArgs, context: &Context) -> anyhow::Result<()> {
    if args.purge && !args.yes {
        return Err(UsageError::new(
            "--purge deletes the project's volumes with all readings in them (add --yes if that is meant)",
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
        true => "the containers and their volumes are gone",
        false => "the containers are gone, their volumes stay; `iotctl up --docker` starts on them again",
    });
    Ok(())
}

fn line(Stopped { name, pid, ended }: &Stopped) -> String {
    match ended {
        Ended::OnTerm => format!("stopped {name} (pid {pid})"),
        Ended::OnKill => format!("killed {name} (pid {pid}), which did not end when told to"),
        Ended::Before => format!("{name} (pid {pid}) had ended before"),
    }
}
