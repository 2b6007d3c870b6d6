//! The schema registry: asked for the schemas that a mapping's messages name, over HTTP with TLS and basic authentication.
//! Its interface is Confluent's (`/schemas/ids/ID`), which other registries speak too.
//!
//! What it says fills [`Schemas`]; reading a message never waits for it. Only its word that an id is unknown makes messages
//! dead letters. Whatever else it answers, or does not answer, is an [`Error`] after which it is asked again.
//!
//! [`Lookup`] is what commands use: it gets whatever a message has to be read by, births of Sparkplug too.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use crate::config::SchemaRegistryConfig;
use crate::error::UsageError;
use crate::mapping::Mapping;
use crate::mapping::schemas::{SchemaKind, SchemaText, Schemas};

mod client;
mod lookup;

use client::{Answer, Client};
pub use lookup::Lookup;

/// Schemas that one schema refers to, directly or not.
const MAX_REFERENCES: usize = 100;

/// Why the registry could not be asked: it may answer the next time.
#[derive(Debug, thiserror::Error)]
#[error("schema registry {url}: {problem}")]
struct Error {
    /// `schema_registry.url`.
    url: String,
    problem: String,
}

/// A schema registry, and what it has told.
#[derive(Debug)]
struct Registry {
    client: Client,
    schemas: Arc<Schemas>,
}

impl Registry {
    /// The registry of the configuration, for a mapping's messages; `None` if the mapping needs none.
    ///
    /// # Errors
    /// No registry is set, or a setting cannot be used.
    fn of(config: &SchemaRegistryConfig, mapping: Option<&Mapping>) -> anyhow::Result<Option<Self>> {
        let Some(mapping) = mapping.filter(|mapping| mapping.needs_registry()) else { return Ok(None) };
        let Some(url) = &config.url else {
            return Err(UsageError::new(format!(
                "mapping {}: a source reads avro or protobuf with the schemas of a registry (set schema_registry.url, or \
                 schema_file in the source)",
                mapping.place
            ))
            .into());
        };
        Ok(Some(Self { client: Client::new(url, config)?, schemas: mapping.schemas().clone() }))
    }

    /// Asks for a schema, once.
    ///
    /// # Errors
    /// It did not answer, or not in a way that says whether it has the schema.
    async fn fetch(&self, id: u32) -> Result<(), Error> {
        let body = match self.client.get(&["schemas", "ids", &id.to_string()]).await? {
            Answer::Found(body) => body,
            Answer::Unknown => {
                self.schemas.insert_unknown(id);
                return Ok(());
            }
        };
        match self.whole(&body).await? {
            Ok(schema) => self.schemas.insert(id, &schema),
            Err(problem) => self.schemas.insert_unusable(id, &problem),
        }
        Ok(())
    }

    /// A schema with all that it refers to; or why nothing can be read by it.
    async fn whole(&self, body: &Value) -> Result<Result<SchemaText, String>, Error> {
        let Some(text) = body["schema"].as_str() else {
            return Err(self.client.error("its answer has no schema (is schema_registry.url right?)"));
        };
        let kind = match body["schemaType"].as_str() {
            None | Some("AVRO") => SchemaKind::Avro,
            Some("PROTOBUF") => SchemaKind::Protobuf,
            Some("JSON") => SchemaKind::Json,
            Some(other) => return Ok(Err(format!("its type is {other}, which is not supported"))),
        };
        let mut schema = SchemaText { kind, text: text.to_owned(), references: Vec::new() };
        let mut due = references(body);
        let mut seen = HashSet::new();
        while let Some((name, subject, version)) = due.pop() {
            if !seen.insert((name.clone(), subject.clone(), version)) {
                continue;
            }
            if seen.len() > MAX_REFERENCES {
                return Ok(Err(format!("it refers to more than {MAX_REFERENCES} schemas")));
            }
            let path = ["subjects", &subject, "versions", &version.to_string()];
            let Answer::Found(body) = self.client.get(&path).await? else {
                return Ok(Err(format!(
                    "it refers to {subject} version {version}, which the registry does not have"
                )));
            };
            let Some(text) = body["schema"].as_str() else {
                return Err(self.client.error("its answer has no schema"));
            };
            schema.references.push((name, text.to_owned()));
            due.extend(references(&body));
        }
        Ok(Ok(schema))
    }
}

/// The name, subject and version of each schema that a schema refers to.
fn references(body: &Value) -> Vec<(String, String, i64)> {
    let reference = |reference: &Value| {
        let text = |name: &str| reference[name].as_str().map(str::to_owned);
        Some((text("name")?, text("subject")?, reference["version"].as_i64()?))
    };
    body["references"].as_array().into_iter().flatten().filter_map(reference).collect()
}
