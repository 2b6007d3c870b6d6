//! `iotctl node`: the members of the cluster, and how nodes are added and removed.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::flags::PlaceArgs;
use super::support::size;
use crate::cassandra::Session;
use crate::config::{Config, RuntimeKind};
use crate::output::{ReportFormat, table};
use crate::servers::membership::journal::Journal;
use crate::servers::membership::{Node, Operator, Runtime, View, add, cleanup, decommission};

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List every node as the other nodes see it
    #[command(after_help = "Examples:
  iotctl node list
  iotctl node list --format json | jq '.members[] | select(.state != \"normal\")'")]
    List {
        #[command(flatten)]
        place: NodesArgs,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: ReportFormat,
    },
    /// Start a new node, wait until it has streamed its data, and verify the data
    ///
    /// Refused unless every node sees every other node as up and normal, all have the same schema version, and disk and
    /// addresses are free. If the command is killed, run it again: it continues where it stopped.
    #[command(after_help = "Examples:
  iotctl node add
  iotctl node add --count 2
  iotctl node cleanup            # afterwards, to free disk space on the others")]
    Add {
        #[command(flatten)]
        place: NodesArgs,
        /// Number of nodes to add, one at a time
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
        count: u32,
    },
    /// Move the data of a node to the other nodes, verify it, and stop the node
    ///
    /// Refused if too few nodes would remain for the replication, another node is down, the disks are too small, or the
    /// node is the last seed. Its files are moved aside and not deleted. If the command is killed, run it again: it
    /// continues where it stopped.
    #[command(after_help = "Examples:
  iotctl node decommission cassandra-4 --dry-run
  iotctl node decommission cassandra-4
  iotctl node decommission 127.0.0.3 --fix-system-replication --yes")]
    Decommission(DecommissionArgs),
    /// Replace a dead node with a new one, which takes over its tokens
    ///
    /// Refused while any node still hears the dead one. The files of the dead node are moved aside. If the command is
    /// killed, run it again: it continues where it stopped.
    #[command(after_help = "Examples:
  iotctl node replace cassandra-2
  iotctl node replace 127.0.0.2 --yes")]
    Replace {
        /// Name or address of the dead node
        #[arg(value_name = "NODE")]
        node: String,
        #[command(flatten)]
        place: NodesArgs,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
    },
    /// Free the disk space of data that nodes have handed over to a new node
    #[command(after_help = "Examples:
  iotctl node cleanup")]
    Cleanup {
        #[command(flatten)]
        place: NodesArgs,
    },
    /// Show the changes to the membership, step by step
    #[command(after_help = "Examples:
  iotctl node journal
  iotctl node journal --format json | jq '.[-1]'")]
    Journal {
        #[command(flatten)]
        place: NodesArgs,
        /// Output format
        #[arg(long, value_enum, default_value_t)]
        format: ReportFormat,
    },
    /// Give up an operation that cannot be finished: a node that does not join, or one that does not leave
    ///
    /// The files of a node that does not join are moved aside. A node that does not leave stays a member: restart it first,
    /// because a node that is handing its data over cannot take it back. One that is down in the middle of leaving can be
    /// replaced afterwards.
    #[command(after_help = "Examples:
  iotctl node abandon")]
    Abandon {
        #[command(flatten)]
        place: NodesArgs,
    },
}

/// Which nodes.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Who runs the nodes [default: cluster.runtime, local]
    #[arg(long, value_enum, value_name = "RUNTIME")]
    pub runtime: Option<RuntimeKind>,
    #[command(flatten)]
    pub place: PlaceArgs,
}

impl NodesArgs {
    /// The configuration with the flags applied.
    fn configure(&self, config: &Config) -> Config {
        let mut config = config.clone();
        config.local = self.place.configure(&config.local);
        config.cluster.runtime = self.runtime.unwrap_or(config.cluster.runtime);
        config
    }
}

#[derive(Debug, Args)]
pub struct DecommissionArgs {
    /// Name or address of the node, as shown by `iotctl node list`
    #[arg(value_name = "NODE")]
    pub node: String,
    #[command(flatten)]
    pub place: NodesArgs,
    /// Lower the replication of Cassandra's own keyspaces if too few nodes would remain for it
    #[arg(long)]
    pub fix_system_replication: bool,
    /// Check and report, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}

pub async fn run(command: NodeCommand, context: Context) -> anyhow::Result<()> {
    match command {
        NodeCommand::List { place, format } => list(&place, format, &context).await,
        NodeCommand::Journal { place, format } => journal(&place, format, &context),
        NodeCommand::Add { place, count } => {
            let (operator, mut runtime) = open(&place, &context).await?;
            for _ in 0..count {
                let journal = add::add(&operator, &mut runtime).await?;
                let record = &journal.record;
                context
                    .output
                    .print(format!("{} joined at {} and was verified", record.node, record.address))?;
            }
            context
                .output
                .note("the other nodes still store the data that they handed over (`iotctl node cleanup` frees the space)");
            Ok(())
        }
        NodeCommand::Decommission(args) => decommission(args, &context).await,
        NodeCommand::Replace { node, place, yes } => {
            let (operator, mut runtime) = open(&place, &context).await?;
            let unfinished = Journal::unfinished(&operator.journals)?;
            let dead =
                unfinished.and_then(|journal| begun(&runtime, journal.record.replaces.as_deref(), &node));
            let dead = dead.map_or_else(|| runtime.find(&node), Ok)?;
            let name = dead.name.clone();
            if !yes && !context.output.confirm(&format!("replace {name}"))? {
                return context.output.print("nothing was changed");
            }
            let journal = add::replace(&operator, &mut runtime, dead).await?;
            let record = &journal.record;
            context
                .output
                .print(format!("{} replaced {name} at {} and was verified", record.node, record.address))
        }
        NodeCommand::Cleanup { place } => {
            let (operator, runtime) = open(&place, &context).await?;
            let cleaned = cleanup::cleanup(&operator, &runtime).await?;
            if cleaned.is_empty() {
                context.output.note("no cleanup is due");
            }
            cleaned.iter().try_for_each(|name| context.output.print(format!("cleaned up {name}")))
        }
        NodeCommand::Abandon { place } => {
            let (operator, runtime) = open(&place, &context).await?;
            let journal = add::abandon(&operator, &runtime).await?;
            context.output.print(last_step(&journal))
        }
    }
}

async fn open(place: &NodesArgs, context: &Context) -> anyhow::Result<(Operator, Runtime)> {
    let config = place.configure(&context.config);
    let runtime = Runtime::open(&config, context.output, &context.shutdown).await?;
    let journals = Runtime::journals(&config)?;
    let operator = Operator::connect(
        runtime.contact_points()?,
        &config.cassandra,
        journals,
        context.output,
        context.shutdown.clone(),
    )
    .await?;
    Ok((operator, runtime))
}

async fn decommission(args: DecommissionArgs, context: &Context) -> anyhow::Result<()> {
    let output = &context.output;
    let (operator, mut runtime) = open(&args.place, context).await?;
    let unfinished = Journal::unfinished(&operator.journals)?;
    let node = unfinished.and_then(|journal| begun(&runtime, Some(&journal.record.node), &args.node));
    let node = node.map_or_else(|| runtime.find(&args.node), Ok)?;
    let journal = match decommission::unfinished(&operator, &node.name)? {
        Some(journal) if args.dry_run => {
            let record = &journal.record;
            return output.print(format!(
                "{} was begun at {} (finish it with `{}`); nothing was changed",
                record.what(),
                record.started_at,
                record.command()
            ));
        }
        Some(journal) => {
            output.note(format!("continuing what started at {}", journal.record.started_at));
            journal
        }
        None => {
            let request = decommission::Request { fix_system_replication: args.fix_system_replication };
            let plan = decommission::plan(&operator, &runtime, &node, request).await?;
            let load = size(plan.load_bytes as u64);
            output.note(format!(
                "{} hands {load} over to {} nodes and is then stopped; its files are moved aside",
                plan.name, plan.nodes_left
            ));
            for (keyspace, factor) in &plan.lowered {
                output.note(format!("the replication factor of {keyspace} becomes {factor}"));
            }
            if args.dry_run {
                return output.print("all checks passed; nothing was changed");
            }
            if !args.yes && !output.confirm(&format!("decommission {}", plan.name))? {
                return output.print("nothing was changed");
            }
            decommission::begin(&operator, &node, &plan).await?
        }
    };
    let journal = decommission::carry_out(&operator, &mut runtime, &node, journal).await?;
    let record = &journal.record;
    output.print(format!("{} has left, and every sampled row was found on the other nodes", record.node))
}

/// The node of an unfinished operation, if that is the one that was typed. It may be off the runtime's list already.
fn begun(runtime: &Runtime, name: Option<&str>, typed: &str) -> Option<Node> {
    runtime.named(name?).ok().filter(|node| node.is_meant_by(typed))
}

async fn list(place: &NodesArgs, format: ReportFormat, context: &Context) -> anyhow::Result<()> {
    let session = Session::connect(&context.config.cassandra).await?;
    let view = View::read(&session).await?;
    let journals = Journal::all(&Runtime::journals(&place.configure(&context.config))?)?;
    let due = cleanup::due(&journals);
    let unfinished = journals.iter().find(|journal| journal.record.finished_at.is_none());
    if format == ReportFormat::Json {
        return context.output.json(&json!({
            "members": view.members,
            "disagreements": view.disagreements,
            "schema_versions": view.schema_versions(),
            "cleanup_due": due,
            "unfinished": unfinished.map(|journal| &journal.record),
        }));
    }
    let headings = [
        "address",
        "state",
        "heard by",
        "load",
        "tokens",
        "owns",
        "datacenter",
        "rack",
        "version",
        "host id",
    ];
    let ranks = [(9, 5), (7, 4), (4, 3), (6, 2), (8, 1)];
    let rows = table::table(&headings, &[2, 3, 4, 5]);
    let mut rows = ranks.into_iter().fold(rows, |rows, (column, rank)| rows.rank(column, rank));
    for member in &view.members {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let load = member.load_bytes.map(|load| size(load as u64));
        rows.add_row([
            member.address.to_string(),
            if member.is_up() {
                member.state.name().to_owned()
            } else {
                format!("{}, down", member.state.name())
            },
            format!("{}/{}", member.heard_by, member.asked),
            or_dash(&load),
            member.tokens.to_string(),
            format!("{:.1} %", member.owns * 100.0),
            or_dash(&member.datacenter),
            or_dash(&member.rack),
            or_dash(&member.version),
            member.host_id.map_or_else(|| "-".into(), |id| id.to_string()),
        ]);
    }
    context.output.table(&rows)?;
    view.disagreements.iter().for_each(|text| context.output.note(text));
    if view.schema_versions().len() > 1 {
        context
            .output
            .note(format!("the nodes have {} different schema versions", view.schema_versions().len()));
    }
    if let Some(journal) = unfinished {
        let record = &journal.record;
        context.output.note(format!(
            "{} is unfinished (finish it with `{}`)",
            record.what(),
            record.command()
        ));
    }
    if !due.is_empty() {
        context.output.note(format!("cleanup is due on {} (`iotctl node cleanup`)", due.join(", ")));
    }
    Ok(())
}

fn journal(place: &NodesArgs, format: ReportFormat, context: &Context) -> anyhow::Result<()> {
    let journals = Journal::all(&Runtime::journals(&place.configure(&context.config))?)?;
    if format == ReportFormat::Json {
        let records: Vec<_> = journals.iter().map(|journal| &journal.record).collect();
        return context.output.json(&records);
    }
    if journals.is_empty() {
        context.output.note("no node was added or decommissioned here");
    }
    let mut rows = table::table(&["operation", "node", "at", "step"], &[]);
    for record in journals.iter().map(|journal| &journal.record) {
        for step in &record.steps {
            rows.add_row([
                record.operation.to_string(),
                record.node.clone(),
                step.at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
                step.what.clone(),
            ]);
        }
    }
    match journals.is_empty() {
        true => Ok(()),
        false => context.output.table(&rows),
    }
}

fn last_step(journal: &Journal) -> String {
    let what = journal.record.steps.last().map_or("", |step| &step.what);
    format!("{}: {what}", journal.record.node)
}
