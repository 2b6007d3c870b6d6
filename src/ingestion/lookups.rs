//! Messages that cannot be read before a schema registry has told their schema, or a birth of Sparkplug has been found in the
//! topics. They are held, and all after them in their order; nothing more is fetched from Kafka meanwhile, but polling goes on,
//! so that the process stays in the consumer group. However long the servers are away, none of them is begun, committed or a
//! dead letter.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::ingestion::IngestMetrics;
use crate::kafka::TopicPartition;
use crate::kafka::message::Message;
use crate::mapping::{Mapping, Missing, Record};
use crate::registry::Lookup;
use crate::shutdown::Shutdown;

pub(super) struct LookupWait {
    lookup: Arc<Lookup>,
    runtime: Handle,
    shutdown: Shutdown,
    metrics: IngestMetrics,
    held: VecDeque<Message<'static>>,
    fetch: Option<(Missing, JoinHandle<()>)>,
    /// Why what is waited for is not known yet.
    problem: Arc<Mutex<Option<String>>>,
}

impl LookupWait {
    pub(super) fn new(lookup: Lookup, runtime: Handle, shutdown: Shutdown, metrics: IngestMetrics) -> Self {
        let (held, problem) = (VecDeque::new(), Arc::default());
        Self { lookup: Arc::new(lookup), runtime, shutdown, metrics, held, fetch: None, problem }
    }

    /// Gets what a message needs, waiting for it: for messages that are judged again before anything else is.
    pub(super) fn prepare(&self, mapping: &Mapping, record: &Record<'_>) -> anyhow::Result<()> {
        match mapping.missing(record) {
            Some(_) => self.runtime.block_on(self.lookup.prepare(mapping, record, &self.shutdown)),
            None => Ok(()),
        }
    }

    /// Whether messages are held.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Why messages are held, if a server could not be asked.
    pub(super) fn problem(&self) -> Option<String> {
        self.is_holding()
            .then(|| self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .flatten()
    }

    pub(super) fn hold(&mut self, message: Message<'static>) {
        self.held.push_back(message);
        self.metrics.waiting_for_schema.set(1);
    }

    pub(super) fn first(&self) -> Option<&Message<'static>> {
        self.held.front()
    }

    pub(super) fn release_first(&mut self) -> Option<Message<'static>> {
        let message = self.held.pop_front();
        self.metrics.waiting_for_schema.set(i64::from(self.is_holding()));
        message
    }

    /// The partition is no longer ours. Returns the bytes of its messages.
    pub(super) fn forget(&mut self, partition: TopicPartition) -> usize {
        let is_of_it = |message: &Message<'_>| message.topic_partition() == partition;
        let bytes = self.held.iter().filter(|message| is_of_it(message)).map(Message::bytes).sum();
        self.held.retain(|message| !is_of_it(message));
        self.metrics.waiting_for_schema.set(i64::from(self.is_holding()));
        bytes
    }

    /// Gets what is missing unless that is under way.
    pub(super) fn fetch(&mut self, missing: Missing) {
        if self.fetch.as_ref().is_some_and(|(asked, task)| *asked == missing && !task.is_finished()) {
            return;
        }
        if matches!(missing, Missing::Schema(_)) {
            self.metrics.schema_requests.inc();
        }
        let (lookup, shutdown, wanted) = (self.lookup.clone(), self.shutdown.clone(), missing.clone());
        let (metrics, problem) = (self.metrics.clone(), self.problem.clone());
        let task = self.runtime.spawn(async move {
            let set = |text| *problem.lock().unwrap_or_else(PoisonError::into_inner) = text;
            let mut has_failed = false;
            lookup
                .fetch_patiently(&wanted, &shutdown, |error| {
                    metrics.schema_request_failures.inc_by(matches!(wanted, Missing::Schema(_)).into());
                    if !has_failed {
                        tracing::warn!(%wanted, "waiting: {error:#}; messages stay in the topic");
                    }
                    has_failed = true;
                    set(Some(format!("waiting for {wanted}: {error:#}")));
                })
                .await;
            set(None);
            if has_failed && !shutdown.is_requested() {
                tracing::info!(%wanted, "found out what was waited for");
            }
        });
        if let Some((_, before)) = self.fetch.replace((missing, task)) {
            // Of a partition that was revoked meanwhile.
            before.abort();
        }
    }
}
