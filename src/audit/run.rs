//! One audit from its beginning to its report: the sides in the right order, then the comparison.

use std::time::Instant;

use anyhow::Context;

use super::collect::{CHECK_INTERVAL, Collector, DeadLetters, LedgerFile, Options};
use super::compare::{Circumstances, Comparison};
use super::findings::Findings;
use super::names::GroupNames;
use super::progress::{OnProgress, Phase};
use super::report::{Report, TopicSide};
use super::sort::Sorter;
use crate::cassandra::Session;
use crate::config::Config;
use crate::kafka::reader::Span;
use crate::kafka::{self, topics};
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
    let topic = config.kafka.topic.clone();
    let partitions = topics::partitions(&config.kafka, &topic).await?;
    let committed = kafka::consumer_groups::committed(&config.kafka, &topic, partitions).await?;
    let lost = kafka::consumer_groups::lost_messages(&config.kafka, &topic, partitions).await?;
    let mut collector = Collector {
        sorter: Sorter::new(&options.work_dir),
        findings: Findings::new(options.examples),
        names: GroupNames::default(),
        topic: TopicSide::default(),
        ledger: None,
        rows: 0,
        time_to_live: readings::time_to_live(session).await?,
        now: chrono::Utc::now().timestamp_millis(),
        config: config.clone(),
        options,
        shutdown,
        on_progress,
    };
    collector = collector.collect_rows(session).await?;

    let spans: Vec<Span> = (0..)
        .zip(topics::watermarks(&config.kafka, &topic).await?)
        .map(|(partition, (from, to))| Span { partition, from, to })
        .collect();
    let noted: u64 = lost.iter().map(|lost| lost.note.messages).sum();
    let since = spans.iter().zip(&committed).filter_map(|(span, committed)| Some(span.from - (*committed)?));
    let since: i64 = since.filter(|deleted| *deleted > 0).sum();
    collector.topic.deleted_unread = noted + since.unsigned_abs();
    let letters = match topics::watermarks(&config.kafka, &config.kafka.dead_letter_topic()).await {
        Ok(watermarks) => watermarks,
        Err(kafka::Error::MissingTopic { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let letters: Vec<Span> =
        (0..).zip(letters).map(|(partition, (from, to))| Span { partition, from, to }).collect();

    let finish = move || {
        let dead = collector.collect_dead_letters(&spans, &letters)?;
        let seen = collector.collect_messages(&spans, &committed, &dead)?;
        if let Some(ledger) = &ledger {
            collector.collect_ledger(ledger, &spans, &seen)?;
        }
        compare(collector, &spans, &dead)
    };
    let mut report =
        tokio::task::spawn_blocking(finish).await.context("the audit stopped unexpectedly")??;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn compare(mut collector: Collector, spans: &[Span], dead: &DeadLetters) -> anyhow::Result<Report> {
    let circumstances = Circumstances {
        first_offsets: spans.iter().map(|span| (span.partition, span.from)).collect(),
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
    collector.topic.name = collector.config.kafka.topic.clone();
    collector.topic.is_cut = spans.iter().any(|span| span.from > 0);
    Ok(Report::new(collector.ledger, collector.topic, collector.rows, compared, findings, &collector.names))
}
