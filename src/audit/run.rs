//! One audit from its beginning to its report: the sides in the right order, then the comparison.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Context;

use super::collect::{CHECK_INTERVAL, Collector, DeadLetters, LedgerFile, Options};
use super::compare::{Circumstances, Comparison};
use super::findings::Findings;
use super::names::GroupNames;
use super::progress::{OnProgress, Phase};
use super::report::{Report, Sides, TopicSide};
use super::sort::Sorter;
use super::topics::{AuditedTopic, AuditedTopics, MOST_TOPICS};
use crate::cassandra::Session;
use crate::config::Config;
use crate::kafka::reader::Span;
use crate::kafka::{self, Subscription, topics};
use crate::shutdown::Shutdown;
use crate::store::readings;

/// Compares all sides.
///
/// # Errors
/// If a side cannot be read. A missing reading is not an error; it is in the [`Report`].
pub async fn audit(
    config: &Config,
    session: &Session,
    options: Options,
    shutdown: Shutdown,
    on_progress: OnProgress,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let ledger = options.ledger.clone().map(LedgerFile::open).transpose()?;
    let subscription = Subscription::new(&config.kafka, options.mapping.as_deref());
    let names = subscription.topics(&config.kafka).await?;
    anyhow::ensure!(
        names.len() <= MOST_TOPICS,
        "{} topics are too many for one audit: {MOST_TOPICS} at most (narrow topic_pattern in the mapping)",
        names.len()
    );
    let (mut audited, mut noted) = (AuditedTopics::default(), 0);
    for name in names {
        let partitions = topics::partitions(&config.kafka, &name).await?;
        let committed = kafka::consumer_groups::committed(&config.kafka, &name, partitions).await?;
        let lost = kafka::consumer_groups::lost_messages(&config.kafka, &name, partitions).await?;
        noted += lost.iter().map(|lost| lost.note.messages).sum::<u64>();
        audited.0.push(AuditedTopic { name, spans: Vec::new(), committed });
    }
    let mut collector = Collector {
        sorter: Sorter::new(&options.work_dir),
        findings: Findings::new(options.examples),
        names: GroupNames::default(),
        topics: AuditedTopics::default(),
        topic: TopicSide::default(),
        ledger: None,
        ledger_names: HashMap::new(),
        rows: 0,
        time_to_live: readings::time_to_live(session).await?,
        now: chrono::Utc::now().timestamp_millis(),
        config: config.clone(),
        options,
        shutdown,
        on_progress,
    };
    collector = collector.collect_rows(session).await?;

    let mut since = 0;
    for topic in &mut audited.0 {
        let watermarks = topics::watermarks(&config.kafka, &topic.name).await?;
        topic.spans =
            (0..).zip(watermarks).map(|(partition, (from, to))| Span { partition, from, to }).collect();
        let both = topic.spans.iter().zip(&topic.committed);
        let deleted = both.filter_map(|(span, committed)| Some(span.from - (*committed)?));
        since += deleted.filter(|deleted| *deleted > 0).sum::<i64>();
    }
    collector.topic.deleted_unread = noted + since.unsigned_abs();
    collector.topics = audited;
    let letters = match topics::watermarks(&config.kafka, &config.kafka.dead_letter_topic()).await {
        Ok(watermarks) => watermarks,
        Err(kafka::Error::MissingTopic { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let letters: Vec<Span> =
        (0..).zip(letters).map(|(partition, (from, to))| Span { partition, from, to }).collect();

    let finish = move || {
        let dead = collector.collect_dead_letters(&letters)?;
        let seen = collector.collect_messages(&dead)?;
        if let Some(ledger) = &ledger {
            collector.collect_ledger(ledger, &seen)?;
        }
        compare(collector, &dead)
    };
    let mut report =
        tokio::task::spawn_blocking(finish).await.context("the audit stopped unexpectedly")??;
    report.name_sensors(session).await?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn compare(mut collector: Collector, dead: &DeadLetters) -> anyhow::Result<Report> {
    let circumstances = Circumstances {
        first_offsets: collector.topics.first_offsets(),
        expired_before: collector.expired_before(),
    };
    let sorter = std::mem::replace(&mut collector.sorter, Sorter::new(&collector.options.work_dir));
    let total = sorter.records();
    let mut findings = std::mem::replace(&mut collector.findings, Findings::new(0));
    let is_dead_letter = |position| dead.contains(position);
    let mut comparison = Comparison::new(circumstances, &is_dead_letter, &mut findings);
    for (record, done) in sorter.finish()?.zip(0..) {
        if done % CHECK_INTERVAL == 0 {
            collector.check_stopped()?;
            collector.report(Phase::Comparing, done, total);
        }
        comparison.take(&record?);
    }
    let compared = comparison.finish();
    collector.topic.name = collector.topics.names();
    collector.topic.is_cut = collector.topics.spans().iter().any(|span| span.from > 0);
    let mapping = collector.options.mapping.as_deref();
    let mapping = mapping.map(|mapping| format!("{} ({})", mapping.place, mapping.fingerprint));
    let sides = Sides { mapping, ledger: collector.ledger, topic: collector.topic, rows: collector.rows };
    let mut report = Report::new(sides, compared, findings, &collector.names, &collector.topics);
    report.name_sensors_by(&collector.ledger_names);
    Ok(report)
}
