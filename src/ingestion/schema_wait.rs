//! Messages that cannot be read before a schema registry has told their schema. They are held, and all after them in their
//! order; nothing more is fetched from Kafka meanwhile, but polling goes on, so that the process stays in the consumer group.
//! However long the registry is away, none of them is begun, committed or a dead letter.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::ingestion::IngestMetrics;
use crate::kafka::TopicPartition;
use crate::kafka::consumer::Message;
use crate::registry::Registry;
use crate::shutdown::Shutdown;

pub(super) struct SchemaWait {
    registry: Arc<Registry>,
    runtime: Handle,
    shutdown: Shutdown,
    metrics: IngestMetrics,
    held: VecDeque<Message<'static>>,
    fetch: Option<(u32, JoinHandle<()>)>,
    /// Why the registry has not told the schema that is waited for.
    problem: Arc<Mutex<Option<String>>>,
}

impl SchemaWait {
    pub(super) fn new(
        registry: Registry,
        runtime: Handle,
        shutdown: Shutdown,
        metrics: IngestMetrics,
    ) -> Self {
        let (held, problem) = (VecDeque::new(), Arc::default());
        Self { registry: Arc::new(registry), runtime, shutdown, metrics, held, fetch: None, problem }
    }

    /// Whether messages are held.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Why messages are held, if the registry could not be asked.
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

    /// Asks for a schema unless it is being asked for.
    pub(super) fn fetch(&mut self, id: u32) {
        if self.fetch.as_ref().is_some_and(|(asked, task)| *asked == id && !task.is_finished()) {
            return;
        }
        self.metrics.schema_requests.inc();
        let (registry, shutdown) = (self.registry.clone(), self.shutdown.clone());
        let (metrics, problem) = (self.metrics.clone(), self.problem.clone());
        let task = self.runtime.spawn(async move {
            let set = |text| *problem.lock().unwrap_or_else(PoisonError::into_inner) = text;
            let mut has_failed = false;
            registry
                .fetch_patiently(id, &shutdown, |error| {
                    metrics.schema_request_failures.inc();
                    if !has_failed {
                        tracing::warn!(schema = id, %error, "waiting for the schema registry; messages stay in the topic");
                    }
                    has_failed = true;
                    set(Some(format!("waiting for schema {id}: {error}")));
                })
                .await;
            set(None);
            if has_failed && !shutdown.is_requested() {
                tracing::info!(schema = id, "the schema registry answers again");
            }
        });
        if let Some((_, before)) = self.fetch.replace((id, task)) {
            // Of a partition that was revoked meanwhile.
            before.abort();
        }
    }
}
