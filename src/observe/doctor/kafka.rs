//! The brokers: topics, partitions, retention compared with the group's lag, and dead letters.

use super::{Check, Finding, encryption, failed, failed_by, ok, skipped, warning};
use crate::config::{Config, KafkaConfig};
use crate::kafka::losses::{self, LostMessages};
use crate::kafka::retention::{Retention, retention};
use crate::kafka::{Error, consumer_groups, topics};
use crate::observe::status::kafka::{Group, Kafka, Topic, age, answering};
use crate::observe::status::{KAFKA_DEADLINE, Section, Status};
use crate::output::text::{one_or_many, plural};

const GROUP: &str = "kafka";

pub(super) async fn checks(config: &Config, status: &Status) -> Vec<Check> {
    let check = |name, finding| Check::new(GROUP, name, finding);
    let encryption = check("encryption", encryption::of_kafka(&config.kafka));
    let clock = check("clocks", skipped("brokers do not report their time to clients"));
    let kafka = match &status.kafka {
        Section::Known(kafka) => kafka,
        Section::Unknown { unknown } => {
            let unreachable = || skipped("Kafka does not answer");
            let names = [
                "topics",
                "partitions",
                "messages lost",
                "retention",
                "dead letters",
                "size limits",
                "in-sync replicas",
            ];
            let mut checks = vec![check("brokers", failed_by(unknown))];
            checks.extend(names.map(|name| check(name, unreachable())));
            checks.extend([clock, encryption]);
            return checks;
        }
    };
    let settings = KafkaConfig {
        request_timeout: config.kafka.request_timeout.min(KAFKA_DEADLINE),
        bootstrap_servers: answering(&config.kafka).await,
        ..config.kafka.clone()
    };
    let limits = async |topic: &str, exists| match exists {
        true => retention(&settings, topic).await.map_err(|error| error.to_string()),
        false => Err("the topic does not exist".to_owned()),
    };
    let dead_letter_topic = settings.dead_letter_topic();
    let (positions, kept, dead_letters_kept) = tokio::join!(
        positions(&settings, kafka),
        limits(&kafka.topic.name, kafka.topic.exists),
        limits(&dead_letter_topic, kafka.dead_letters.exists)
    );
    let in_sync = judge_in_sync(&[(&kafka.topic, &kept), (&kafka.dead_letters, &dead_letters_kept)]);
    let size_limits = judge_size_limits(&dead_letter_topic, &kept, &dead_letters_kept);
    let (lost, kept) = match positions {
        Ok(positions) => {
            (judge_lost(&positions, &kafka.group.lost), judge_retention(kept, &kafka.group, &positions))
        }
        Err(reason) => (skipped(reason.clone()), skipped(reason)),
    };
    vec![
        check("brokers", brokers(kafka)),
        check("topics", topics_of(kafka)),
        check("partitions", partitions(kafka, &config.kafka)),
        check("messages lost", lost),
        check("retention", kept),
        check("dead letters", dead_letters(kafka)),
        check("size limits", size_limits),
        check("in-sync replicas", in_sync),
        clock,
        encryption,
    ]
}

/// Whether an acknowledged message survives the failure of one broker, and whether messages can be written then.
fn judge_in_sync(topics: &[(&Topic, &Result<Retention, String>)]) -> Finding {
    let mut found = Vec::new();
    for (topic, limits) in topics {
        let name = &topic.name;
        let minimum = match limits {
            Ok(limits) => limits.min_in_sync_replicas,
            Err(reason) => return skipped(reason.clone()),
        };
        let alter = |minimum| {
            format!(
                "set it to {minimum}: kafka-configs.sh --alter --entity-type topics --entity-name {name} \
                 --add-config min.insync.replicas={minimum}"
            )
        };
        match (topic.replicas, minimum) {
            (_, None) => {
                return skipped(format!("the brokers do not report min.insync.replicas of topic {name}"));
            }
            (replicas @ 3.., Some(..2)) => {
                return warning(
                    format!(
                        "topic {name} has {replicas} replicas and min.insync.replicas 1: the failure of one broker can \
                         lose acknowledged messages"
                    ),
                    alter(2),
                );
            }
            (replicas @ 2.., Some(minimum)) if minimum >= replicas => {
                return warning(
                    format!(
                        "topic {name} has {replicas} replicas and min.insync.replicas {minimum}: while one broker is \
                         down, nothing can be written"
                    ),
                    alter(replicas - 1),
                );
            }
            (replicas, Some(minimum)) => found.push(format!("{name}: {minimum} of {replicas}")),
        }
    }
    ok(found.join(", "))
}

fn brokers(kafka: &Kafka) -> Finding {
    let addresses = |answers| {
        let brokers = kafka.brokers.iter().filter(|broker| broker.answers == answers);
        brokers.map(|broker| broker.address.as_str()).collect::<Vec<_>>().join(", ")
    };
    let silent = addresses(false);
    match silent.is_empty() {
        true => ok(format!("{}: {}", kafka.brokers.len(), addresses(true))),
        false => failed(
            format!("no answer from {silent}; {} answers", addresses(true)),
            "start the brokers, or see their logs",
        ),
    }
}

fn topics_of(kafka: &Kafka) -> Finding {
    let mut unhealthy: Vec<String> = Vec::new();
    for topic in kafka.topics().chain([&kafka.dead_letters]) {
        if let Some(unknown) = &topic.unknown {
            return failed_by(unknown);
        }
        if !topic.exists {
            return failed(format!("topic {} does not exist", topic.name), "run `iotctl schema apply`");
        }
        if !topic.leaderless.is_empty() {
            unhealthy.push(format!("{}: partitions {:?} have no leader", topic.name, topic.leaderless));
        }
        if !topic.under_replicated.is_empty() {
            unhealthy.push(format!(
                "{}: partitions {:?} are under-replicated",
                topic.name, topic.under_replicated
            ));
        }
    }
    let topic = &kafka.topic;
    match (unhealthy.is_empty(), topic.replicas) {
        (false, _) => failed(
            unhealthy.join("; "),
            "start the brokers that hold their replicas, or see the brokers' logs",
        ),
        (true, 1) if kafka.brokers.len() > 1 => warning(
            format!("topic {} has 1 replica on {} brokers", topic.name, kafka.brokers.len()),
            "reassign its partitions to 3 replicas, and set kafka.replication_factor",
        ),
        (true, replicas) => {
            let replicas = plural(replicas, "replica");
            ok(format!("{} and {}, {replicas} in sync", topic.name, kafka.dead_letters.name))
        }
    }
}

fn partitions(kafka: &Kafka, config: &KafkaConfig) -> Finding {
    if !kafka.topic.exists {
        return skipped("the topic does not exist");
    }
    let partitions: usize = kafka.topics().map(|topic| topic.partitions).sum();
    let is_built_in = kafka.topic.name == config.topic && kafka.other_topics.is_empty();
    if is_built_in && usize::try_from(config.partitions) != Ok(partitions) {
        return warning(
            format!(
                "the topic has {}, and kafka.partitions is {}",
                plural(partitions, "partition"),
                config.partitions
            ),
            "set kafka.partitions to the actual number, or alter the topic",
        );
    }
    match kafka.group.members {
        Some(members) if members > partitions => warning(
            format!(
                "group {} has {} for {}",
                kafka.group.name,
                plural(members, "member"),
                plural(partitions, "partition")
            ),
            "members without a partition stay idle: stop them, or add partitions",
        ),
        Some(members) => {
            let (partitions, members) = (plural(partitions, "partition"), plural(members, "member"));
            ok(format!("{partitions}, {members} in {}", kafka.group.name))
        }
        None => ok(format!("{}; the group's members cannot be listed", plural(partitions, "partition"))),
    }
}

/// The group's position in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    oldest: i64,
    end: i64,
    committed: Option<i64>,
}

async fn positions(config: &KafkaConfig, kafka: &Kafka) -> Result<Vec<Position>, String> {
    if !kafka.topic.exists {
        return Err("the topic does not exist".into());
    }
    let say = |error: Error| error.to_string();
    let mut positions = Vec::new();
    for topic in kafka.topics().filter(|topic| topic.exists) {
        let count = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
        let (watermarks, committed) = tokio::join!(
            topics::watermarks(config, &topic.name),
            consumer_groups::committed(config, &topic.name, count)
        );
        let both = watermarks.map_err(say)?.into_iter().zip(committed.map_err(say)?);
        positions.extend(both.map(|((oldest, end), committed)| Position { oldest, end, committed }));
    }
    Ok(positions)
}

/// Messages that the topic deleted before the group had committed them.
fn judge_lost(positions: &[Position], noted: &[LostMessages]) -> Finding {
    let (mut lost, mut never, mut beyond) = (0, 0, 0);
    for position in positions {
        match position.committed {
            Some(committed) if committed < position.oldest => lost += position.oldest - committed,
            Some(committed) if committed > position.end => beyond += 1,
            Some(_) => {}
            None => never += position.oldest,
        }
    }
    if let Some(noted) = losses::describe(noted) {
        return failed(
            format!("{noted}: Kafka deleted them before ingest had read them"),
            "send them again if their source still has them (`iotctl audit` lists those in a ledger), raise the topic's \
             retention, and keep an ingest running; to clear this note, stop the ingests and commit the offsets anew \
             (`iotctl offsets reset --to current`)",
        );
    }
    match (lost, beyond, never) {
        (0, 0, 0) => ok("the topic still has everything that the group has not committed"),
        (0, 0, never) => warning(
            format!(
                "{} deleted in partitions where the group has never committed",
                one_or_many(never, "message was", "messages were")
            ),
            "if the group needed them, send them again; raise the topic's retention and keep an ingest running",
        ),
        (0, beyond, _) => failed(
            format!(
                "{} before the group's committed offset: the topic was recreated",
                one_or_many(beyond, "partition ends", "partitions end")
            ),
            "stop the ingests and reset the group's offsets (`iotctl offsets reset --to earliest`)",
        ),
        (lost, _, _) => failed(
            format!(
                "{} deleted before the group had committed them",
                one_or_many(lost, "message was", "messages were")
            ),
            "send them again if their source still has them (`iotctl audit` lists those in a ledger), raise the topic's \
             retention, and keep an ingest running",
        ),
    }
}

/// Whether the dead-letter topic accepts what the topic accepts.
fn judge_size_limits(
    name: &str,
    topic: &Result<Retention, String>,
    dead_letters: &Result<Retention, String>,
) -> Finding {
    let limit = |kept: &Result<Retention, String>| match kept {
        Ok(kept) => kept.max_message_bytes.ok_or_else(|| "max.message.bytes is unknown".to_owned()),
        Err(reason) => Err(reason.clone()),
    };
    match (limit(topic), limit(dead_letters)) {
        (Ok(source), Ok(limit)) if limit < source => warning(
            format!(
                "{name} accepts messages of {limit} bytes, and the topic accepts {source}: larger dead letters are truncated"
            ),
            format!(
                "set its limit (kafka-configs.sh --alter --entity-type topics --entity-name {name} --add-config \
                 max.message.bytes={})",
                topics::dead_letter_limit_for(source)
            ),
        ),
        (Ok(source), Ok(limit)) => {
            ok(format!("messages up to {source} bytes, dead letters up to {limit} bytes"))
        }
        (Err(reason), _) | (_, Err(reason)) => skipped(reason),
    }
}

/// Whether the topic keeps messages long enough for the group.
fn judge_retention(kept: Result<Retention, String>, group: &Group, positions: &[Position]) -> Finding {
    let kept = match kept {
        Ok(kept) => kept,
        Err(reason) => return skipped(reason),
    };
    if kept.is_compacted {
        return failed(
            "the topic is compacted: of the messages with one key, only the newest is kept",
            "set its cleanup.policy to delete: otherwise an ingest that falls behind loses readings",
        );
    }
    let bytes = match kept.bytes {
        Some(bytes) => {
            format!(" and {} per partition", bytesize::ByteSize::b(bytes.unsigned_abs()).display().iec())
        }
        None => String::new(),
    };
    let limit = match kept.milliseconds {
        Some(milliseconds) => format!("messages are kept for {}{bytes}", age(milliseconds as f64 / 1000.0)),
        None => format!("messages are kept forever{bytes}"),
    };
    let remedy = "start or add an ingest, or raise the topic's retention.ms and retention.bytes";
    // Clients cannot see the bytes in a partition, but they can see how much of it is left to read.
    let is_left_behind = kept.bytes.is_some()
        && positions.iter().any(|position| {
            let (all, left) =
                (position.end - position.oldest, position.end - position.committed.unwrap_or(0));
            all > 0 && position.oldest > 0 && left * 2 > all
        });
    match (group.lag_messages, group.lag_seconds, kept.milliseconds) {
        (Some(0), _, _) => ok(format!("{limit}, and the group has read all of them")),
        (Some(_), Some(seconds), Some(milliseconds)) if seconds * 2000.0 > milliseconds as f64 => {
            warning(format!("{limit}, and the oldest uncommitted one is {} old", age(seconds)), remedy)
        }
        (Some(_), _, _) if is_left_behind => warning(
            format!(
                "{limit}, and the group still has to read more than half of a partition that is already being deleted from"
            ),
            remedy,
        ),
        (Some(_), Some(seconds), _) => ok(format!("{limit}, and the group is behind by {}", age(seconds))),
        (Some(lag), None, _) => {
            skipped(format!("{limit}; the age of the {lag} uncommitted messages is unknown"))
        }
        (None, _, _) => skipped(format!("{limit}; the group's committed offsets are unknown")),
    }
}

fn dead_letters(kafka: &Kafka) -> Finding {
    let letters = &kafka.dead_letters;
    match (letters.exists, letters.messages, kafka.topic.messages) {
        (false, _, _) => skipped("the dead-letter topic does not exist"),
        (true, 0, _) => ok("none"),
        // More than 1% points to a format or a setting, not to single messages.
        (true, count, all) if count * 100 > all.max(1) => warning(
            format!(
                "{count} in the dead-letter topic (replay marks included), {} in the topic",
                plural(all, "message")
            ),
            "list their reasons with `iotctl dead-letters list`, fix the cause, then run `iotctl dead-letters replay --all --yes`",
        ),
        (true, count, all) => ok(format!(
            "{count} in the dead-letter topic, {} in the topic (see `iotctl dead-letters list`)",
            plural(all, "message")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn position(oldest: i64, end: i64, committed: Option<i64>) -> Position {
        Position { oldest, end, committed }
    }

    #[test]
    fn messages_deleted_before_they_were_committed_are_counted() {
        assert_eq!(judge_lost(&[position(10, 30, Some(10)), position(0, 5, None)], &[]).0, Verdict::Ok);
        let (verdict, found, _) = judge_lost(&[position(10, 30, Some(3)), position(4, 9, Some(2))], &[]);
        assert_eq!((verdict, &found[..2]), (Verdict::Failed, "9 "), "{found}");
        assert_eq!(judge_lost(&[position(5, 9, None)], &[]).0, Verdict::Warning);
        assert_eq!(judge_lost(&[position(0, 9, Some(10))], &[]).0, Verdict::Failed);
    }

    #[test]
    fn a_note_of_lost_messages_fails_after_everything_was_committed() {
        let mut note = crate::kafka::losses::LossNote::default();
        note.add(crate::kafka::losses::LostRange { from: 0, to: 15_000, found_at: 0 });
        let (verdict, found, _) = judge_lost(
            &[position(15_000, 30_000, Some(30_000))],
            &[LostMessages { topic: "readings".into(), partition: 2, note }],
        );
        assert_eq!(verdict, Verdict::Failed);
        assert!(found.contains("15000 messages") && found.contains("partition 2"), "{found}");
    }

    #[test]
    fn a_dead_letter_topic_with_a_lower_limit_than_the_topic_warns() {
        let limit = |bytes| Ok(Retention { max_message_bytes: Some(bytes), ..Retention::default() });
        let judged = |topic, letters| judge_size_limits("t.dlq", &limit(topic), &limit(letters));
        assert_eq!(judged(1_048_588, 2_097_152).0, Verdict::Ok);
        let (verdict, found, _) = judged(3_000_000, 2_097_152);
        assert_eq!(verdict, Verdict::Warning, "{found}");
        assert_eq!(judge_size_limits("t.dlq", &Err("denied".into()), &limit(1)).0, Verdict::Skipped);
    }

    #[test]
    fn three_replicas_need_two_in_sync_and_one_that_may_be_down() {
        let verdict = |replicas, minimum| {
            let topic = Topic { name: "readings".into(), exists: true, replicas, ..Topic::default() };
            let limits = Ok(Retention { min_in_sync_replicas: minimum, ..Retention::default() });
            judge_in_sync(&[(&topic, &limits)])
        };
        assert_eq!(verdict(3, Some(2)).0, Verdict::Ok);
        let (level, found, remedy) = verdict(3, Some(1));
        assert!(level == Verdict::Warning && found.contains("min.insync.replicas 1"), "{found}");
        assert!(remedy.unwrap().contains("--add-config min.insync.replicas=2"));
        assert_eq!(verdict(3, Some(3)).0, Verdict::Warning);
        assert_eq!(verdict(2, Some(2)).0, Verdict::Warning);
        assert_eq!(verdict(2, Some(1)).0, Verdict::Ok);
        assert_eq!(verdict(1, Some(1)).0, Verdict::Ok);
        assert_eq!(verdict(3, None).0, Verdict::Skipped);
    }

    #[test]
    fn a_lag_of_more_than_half_of_the_retention_warns() {
        let week = Retention {
            milliseconds: Some(604_800_000),
            bytes: None,
            is_compacted: false,
            ..Retention::default()
        };
        let judged = |lag_seconds, kept| {
            let group = Group { lag_messages: Some(5), lag_seconds, ..Group::default() };
            judge_retention(Ok(kept), &group, &[position(0, 5, None)]).0
        };
        assert_eq!(judged(Some(302_000.0), week), Verdict::Ok);
        assert_eq!(judged(Some(303_000.0), week), Verdict::Warning);
        assert_eq!(judged(Some(303_000.0), Retention { milliseconds: None, ..week }), Verdict::Ok);
        assert_eq!(judged(None, week), Verdict::Skipped);
        assert_eq!(judged(Some(0.0), Retention { is_compacted: true, ..week }), Verdict::Failed);
        let idle = Group { lag_messages: Some(0), ..Group::default() };
        assert_eq!(judge_retention(Ok(week), &idle, &[]).0, Verdict::Ok);
    }

    #[test]
    fn a_partition_that_is_deleted_from_by_size_warns_before_the_group_is_reached() {
        let kept = Retention {
            milliseconds: None,
            bytes: Some(1 << 20),
            is_compacted: false,
            ..Retention::default()
        };
        let group = Group { lag_messages: Some(80), lag_seconds: Some(1.0), ..Group::default() };
        let verdict = |position| judge_retention(Ok(kept), &group, &[position]).0;
        assert_eq!(verdict(position(100, 200, Some(120))), Verdict::Warning);
        assert_eq!(verdict(position(100, 200, Some(180))), Verdict::Ok);
        // Nothing has been deleted yet, so the partition is not full.
        assert_eq!(verdict(position(0, 100, Some(10))), Verdict::Ok);
    }

    #[test]
    fn more_members_than_partitions_and_many_dead_letters_warn() {
        let mut kafka = crate::observe::status::kafka::tests::kafka();
        let config = KafkaConfig::default();
        assert_eq!(partitions(&kafka, &config).0, Verdict::Ok);
        kafka.group.members = Some(13);
        assert_eq!(partitions(&kafka, &config).0, Verdict::Warning);
        assert_eq!(dead_letters(&kafka).0, Verdict::Ok);
        kafka.dead_letters.messages = 51;
        assert_eq!(dead_letters(&kafka).0, Verdict::Warning);
    }
}
