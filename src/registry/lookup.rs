//! What messages have to be read by, beside the mapping: schemas of a registry, and births of Sparkplug, which are in the
//! topics themselves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Registry;
use crate::config::Config;
use crate::error::Interrupted;
use crate::kafka::births::BirthSearch;
use crate::mapping::{Mapping, Missing, Record};
use crate::retry::RetryPolicy;
use crate::shutdown::Shutdown;

/// The delays between two requests that failed.
const RETRIES: RetryPolicy = RetryPolicy::new(Duration::from_millis(250), Duration::from_secs(10));
/// How long commands that end by themselves ask again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gets what is missing.
#[derive(Debug)]
pub struct Lookup {
    registry: Option<Registry>,
    births: Option<Arc<Mutex<BirthSearch>>>,
}

impl Lookup {
    /// For a mapping's messages; `None` if they need nothing.
    ///
    /// # Errors
    /// No registry is set, or a setting cannot be used.
    pub fn of(config: &Config, mapping: Option<&Mapping>) -> anyhow::Result<Option<Self>> {
        let registry = Registry::of(&config.schema_registry, mapping)?;
        let births = mapping
            .filter(|mapping| mapping.needs_births())
            .map(|mapping| Arc::new(Mutex::new(BirthSearch::new(&config.kafka, mapping))));
        Ok((registry.is_some() || births.is_some()).then_some(Self { registry, births }))
    }

    /// For messages that are in no topic: births are those among them.
    ///
    /// # Errors
    /// As [`Lookup::of`].
    pub fn without_topics(config: &Config, mapping: &Mapping) -> anyhow::Result<Option<Self>> {
        let registry = Registry::of(&config.schema_registry, Some(mapping))?;
        Ok(registry.map(|registry| Self { registry: Some(registry), births: None }))
    }

    /// Tries once.
    ///
    /// # Errors
    /// It is not known yet whether it exists.
    async fn fetch(&self, missing: &Missing) -> anyhow::Result<()> {
        match (missing, &self.registry, &self.births) {
            (Missing::Schema(id), Some(registry), _) => Ok(registry.fetch(*id).await?),
            (Missing::Birth(needed), _, Some(births)) => {
                /// Ends the search when the caller no longer waits for it.
                struct Abandoned(Arc<AtomicBool>);
                impl Drop for Abandoned {
                    fn drop(&mut self) {
                        self.0.store(true, Ordering::Relaxed);
                    }
                }
                let (births, needed) = (births.clone(), needed.clone());
                let is_abandoned = Arc::new(AtomicBool::new(false));
                let _abandoned = Abandoned(is_abandoned.clone());
                let search = move || {
                    let mut births = births.lock().unwrap_or_else(PoisonError::into_inner);
                    births.find(&needed, &|| is_abandoned.load(Ordering::Relaxed))
                };
                let searched = tokio::task::spawn_blocking(search).await;
                Ok(searched.context("the search for births ended with a panic")??)
            }
            _ => Ok(()),
        }
    }

    /// Tries until it is known or shutdown is requested; `on_error` is told of each failure.
    pub async fn fetch_patiently(
        &self,
        missing: &Missing,
        shutdown: &Shutdown,
        mut on_error: impl FnMut(&anyhow::Error),
    ) {
        let mut delays = RETRIES.delays();
        loop {
            let error = tokio::select! {
                fetched = self.fetch(missing) => match fetched {
                    Ok(()) => return,
                    Err(error) => error,
                },
                () = shutdown.requested() => return,
            };
            on_error(&error);
            tokio::select! {
                () = tokio::time::sleep(delays.next_delay()) => {}
                () = shutdown.requested() => return,
            }
        }
    }

    /// Gets what a message needs, so that it can be read; for commands that end by themselves.
    ///
    /// # Errors
    /// The servers have not answered for a minute; or shutdown was requested.
    pub async fn prepare(
        &self,
        mapping: &Mapping,
        record: &Record<'_>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let Some(missing) = mapping.missing(record) else { return Ok(()) };
        let mut delays = RETRIES.delays();
        let since = Instant::now();
        loop {
            let fetched = tokio::select! {
                fetched = self.fetch(&missing) => fetched,
                () = shutdown.requested() => return Err(Interrupted.into()),
            };
            match fetched {
                Ok(()) => return Ok(()),
                Err(error) if since.elapsed() > PATIENCE => {
                    return Err(error.context(format!("{missing} is needed to read messages")));
                }
                Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(delays.next_delay()) => {}
                () = shutdown.requested() => return Err(Interrupted.into()),
            }
        }
    }

    /// [`Self::prepare`] for a thread of the runtime that may block.
    ///
    /// # Errors
    /// As that.
    pub fn prepare_blocking(
        &self,
        mapping: &Mapping,
        record: &Record<'_>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        // The runtime is entered only where something has to be fetched.
        match mapping.missing(record) {
            Some(_) => tokio::runtime::Handle::current().block_on(self.prepare(mapping, record, shutdown)),
            None => Ok(()),
        }
    }
}
