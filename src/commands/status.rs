//! `iotctl status`.

use std::time::Duration;

use clap::Args;

use super::Context;
use super::flags::PlaceArgs;
use super::support::{self, size};
use crate::error::UsageError;
use crate::observe::status::kafka::{Topic, age};
use crate::observe::status::{Cassandra, Kafka, Schema, Section, Status};
use crate::output::table::{self, Table};
use crate::output::text::plural;
use crate::output::{Output, Paint, ReportFormat};
use crate::servers::local;

/// Show servers, schema, lag and disk on one screen.
///
/// Looks at the configured servers and at the processes of `iotctl up`. An unreachable server is reported and does not hide
/// the rest. Exit code 0 when everything is healthy, 1 when something needs attention.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl status
  iotctl status --watch                                      # again every 2 s, until Ctrl-C
  iotctl status --format json | jq -r '.attention[]'         # what needs attention
  iotctl status --format json | jq '.kafka.group.lag_messages'
  iotctl status --local                                      # only the processes of `iotctl up`
  iotctl -q status >/dev/null || echo 'something needs attention'")]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Only the processes of `iotctl up`, without asking the configured servers; exit code 0
    #[arg(long, conflicts_with = "watch")]
    pub local: bool,
    /// Repeat every SECONDS, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub watch: Option<u64>,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
}

/// Something needs attention; the printed status says what.
#[derive(Debug, thiserror::Error)]
#[error("{count} {}", if *count == 1 { "thing needs attention" } else { "things need attention" })]
struct NeedsAttention {
    count: usize,
}

pub async fn run(args: StatusArgs, context: Context) -> anyhow::Result<()> {
    if args.local {
        return processes(&args, &context).await;
    }
    let mut servers = support::servers(&args.place, &context);
    let Some(seconds) = args.watch else {
        let status = tokio::select! {
            status = servers.look() => status,
            () = context.shutdown.requested() => return Err(crate::error::Interrupted.into()),
        };
        print(&status, args.format, &context.output)?;
        return match status.attention.len() {
            0 => Ok(()),
            count => Err(NeedsAttention { count }.into()),
        };
    };
    if args.format == ReportFormat::Table && !context.output.stdout_is_terminal {
        return Err(UsageError::new("--watch needs a terminal (use --format json, or remove --watch)").into());
    }
    loop {
        let status = tokio::select! {
            status = servers.look() => status,
            () = context.shutdown.requested() => return Ok(()),
        };
        if args.format == ReportFormat::Table {
            context.output.clear()?;
        }
        print(&status, args.format, &context.output)?;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            () = context.shutdown.requested() => return Ok(()),
        }
    }
}

/// The processes that `up` started here, whatever is configured.
async fn processes(args: &StatusArgs, context: &Context) -> anyhow::Result<()> {
    let servers = local::status(&args.place.configure(&context.config.local)).await?;
    match args.format {
        ReportFormat::Json => context.output.json(&serde_json::json!({ "local": servers })),
        ReportFormat::Table if servers.is_empty() => {
            context.output.note("no servers here (start some with `iotctl up`)");
            Ok(())
        }
        ReportFormat::Table => context.output.table(&support::server_table(&servers)),
    }
}

fn print(status: &Status, format: ReportFormat, output: &Output) -> anyhow::Result<()> {
    match format {
        ReportFormat::Json => output.json(status),
        ReportFormat::Table => output.print(screen(status, output)),
    }
}

/// The whole as text.
fn screen(status: &Status, output: &Output) -> String {
    let mut parts = vec![
        section("Cassandra", &status.cassandra, cassandra, output),
        section("Schema", &status.schema, schema, output),
        section("Kafka", &status.kafka, kafka, output),
    ];
    if let Some(disk) = &status.disk {
        let [free, total] = [disk.disk.free_bytes, disk.disk.total_bytes].map(size);
        let folder = disk.folder.display();
        let text = output.hanging(&format!("{free} of {total} free at {folder}"), "Disk  ".len());
        parts.push(format!("{}  {text}", output.bold("Disk")));
    }
    if !status.local.is_empty() {
        parts.push(format!(
            "{}\n{}",
            output.bold("Servers of `iotctl up`"),
            support::server_table(&status.local).with_note(output)
        ));
    }
    let listed = |texts: &[String], paint| {
        let line = |text: &String| format!("\n  {} {}", output.paint(paint, "●"), output.hanging(text, 4));
        texts.iter().map(line).collect::<String>()
    };
    if !status.remarks.is_empty() {
        parts.push(format!("{}{}", output.bold("Unknown"), listed(&status.remarks, Paint::Dim)));
    }
    parts.push(match status.is_healthy {
        true => output.paint(Paint::Green, "everything is healthy"),
        false => format!("{}{}", output.bold("Needs attention"), listed(&status.attention, Paint::Red)),
    });
    parts.join("\n\n")
}

fn section<T>(
    name: &str,
    section: &Section<T>,
    print: impl Fn(&T) -> (String, Option<Table>),
    output: &Output,
) -> String {
    match section {
        Section::Unknown { unknown } => {
            let unknown = output.hanging(unknown, name.len() + "  unknown: ".len());
            format!("{}  {} {unknown}", output.bold(name), output.paint(Paint::Red, "unknown:"))
        }
        Section::Known(known) => {
            let (summary, table) = print(known);
            let table = table.map(|table| format!("\n{}", table.with_note(output))).unwrap_or_default();
            format!("{}  {}{table}", output.bold(name), output.hanging(&summary, name.len() + 2))
        }
    }
}

fn cassandra(cassandra: &Cassandra) -> (String, Option<Table>) {
    let headings = ["node", "state", "heard by", "load", "datacenter", "rack", "version"];
    // The rack says least, then where the node is: most clusters have one of each.
    let mut table = table::table(&headings, &[2, 3]).rank(5, 2).rank(4, 1);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    for node in &cassandra.nodes {
        let state = match (node.answers, node.state) {
            (true, state) => state.unwrap_or("answers").to_owned(),
            (false, state) => format!("{}, no answer", state.unwrap_or("down")),
        };
        table.add_row([
            node.address.to_string(),
            state,
            or_dash(&node.heard_by.map(|(heard, asked)| format!("{heard}/{asked}"))),
            or_dash(&node.load_bytes.map(|load| size(load as u64))),
            or_dash(&node.datacenter),
            or_dash(&node.rack),
            or_dash(&node.version),
        ]);
    }
    let up = cassandra.nodes.iter().filter(|node| node.is_healthy()).count();
    (format!("{up} of {} nodes healthy", cassandra.nodes.len()), Some(table))
}

fn schema(schema: &Schema) -> (String, Option<Table>) {
    let (missing, differing) = (schema.missing().len(), schema.differing().len());
    let summary = match (missing, differing) {
        (0, 0) => format!("keyspace {} is in order", schema.keyspace),
        _ => format!("keyspace {}: {missing} missing, {differing} different", schema.keyspace),
    };
    (summary, None)
}

fn kafka(kafka: &Kafka) -> (String, Option<Table>) {
    let headings = ["topic", "partitions", "replicas", "out of sync", "no leader", "messages kept"];
    let mut table = table::table(&headings, &[1, 2, 3, 4, 5]);
    for topic in kafka.topics().chain([&kafka.dead_letters]) {
        table.add_row(topic_row(topic));
    }
    let group = &kafka.group;
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
    let summary = format!(
        "{}; group {}: {}, lag {}, {}",
        brokers(kafka),
        group.name,
        group.members.map_or("unknown members".into(), |members| plural(members, "member")),
        group.lag_messages.map_or("unknown".into(), |lag| plural(lag, "message")),
        or_unknown(group.lag_seconds.map(age)),
    );
    (summary, Some(table))
}

fn brokers(kafka: &Kafka) -> String {
    let addresses = |answers| {
        let brokers = kafka.brokers.iter().filter(|broker| broker.answers == answers);
        brokers.map(|broker| broker.address.as_str()).collect::<Vec<_>>()
    };
    let (answering, silent) = (addresses(true), addresses(false));
    let all = kafka.brokers.len();
    let listed = answering.join(", ");
    match silent.is_empty() {
        true => format!("{} ({listed})", plural(all, "broker")),
        false => format!(
            "{} of {all} brokers answer ({listed}; no answer: {})",
            answering.len(),
            silent.join(", ")
        ),
    }
}

fn topic_row(topic: &Topic) -> [String; 6] {
    if !topic.exists {
        return [topic.name.clone(), "missing".into(), "-".into(), "-".into(), "-".into(), "-".into()];
    }
    [
        topic.name.clone(),
        topic.partitions.to_string(),
        topic.replicas.to_string(),
        topic.under_replicated.len().to_string(),
        topic.leaderless.len().to_string(),
        topic.messages.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ColorChoice;

    #[test]
    fn brokers_that_answer_and_those_that_do_not_are_told_apart() {
        use crate::observe::status::kafka::Broker;
        let mut kafka = crate::observe::status::kafka::tests::kafka();
        assert_eq!(brokers(&kafka), "1 broker (127.0.0.1:9092)");
        for (id, address) in [(Some(2), "127.0.0.2:9092"), (None, "127.0.0.3:9092")] {
            kafka.brokers.push(Broker { id, address: address.into(), answers: false });
        }
        assert_eq!(
            brokers(&kafka),
            "1 of 3 brokers answer (127.0.0.1:9092; no answer: 127.0.0.2:9092, 127.0.0.3:9092)"
        );
    }

    #[test]
    fn an_unreachable_kafka_is_one_line_and_does_not_hide_the_rest() {
        let mut status = crate::observe::status::tests::healthy();
        let output = Output::new(ColorChoice::Never, false);
        assert!(screen(&status, &output).ends_with("everything is healthy"));
        status.kafka = Section::unknown_because("no Kafka broker answers (start one)");
        status.attention = vec!["no Kafka broker answers (start one)".into()];
        status.is_healthy = false;
        let text = screen(&status, &output);
        assert!(text.contains("Kafka  unknown: no Kafka broker answers (start one)\n"), "{text}");
        assert!(text.contains("1 of 1 nodes healthy") && text.contains("127.0.0.1:9042"), "{text}");
        assert!(text.ends_with("Needs attention\n  ● no Kafka broker answers (start one)"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }
}
