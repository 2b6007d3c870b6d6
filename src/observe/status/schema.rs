//! The keyspace compared with schema.cql.

use serde::Serialize;

use super::Section;
use crate::cassandra::Session;
use crate::config::Config;
use crate::store::schema::{Plan, State};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schema {
    pub keyspace: String,
    pub objects: Vec<Object>,
}

/// A keyspace, table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Object {
    pub kind: &'static str,
    pub name: String,
    /// `in order`, `missing`, `differs`.
    pub state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

impl Schema {
    pub fn missing(&self) -> Vec<&str> {
        self.in_state("missing")
    }

    pub fn differing(&self) -> Vec<&str> {
        self.in_state("differs")
    }

    fn in_state(&self, state: &str) -> Vec<&str> {
        let objects = self.objects.iter().filter(|object| object.state == state);
        objects.map(|object| object.name.as_str()).collect()
    }

    pub fn attention(&self) -> Vec<String> {
        let mut attention = Vec::new();
        let missing = self.missing();
        if missing.contains(&self.keyspace.as_str()) {
            attention.push(format!("keyspace {} does not exist (run `iotctl schema apply`)", self.keyspace));
        } else if !missing.is_empty() {
            attention.push(format!("{} missing (run `iotctl schema apply`)", are(&missing)));
        }
        let differing = self.differing();
        if !differing.is_empty() {
            attention.push(format!(
                "{} not as defined in schema.cql (run `iotctl schema apply --dry-run`, which prints what to do)",
                are(&differing)
            ));
        }
        attention
    }
}

fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

pub async fn look(session: &Session, config: &Config, replication_is_set: bool) -> Section<Schema> {
    let plan = match Plan::make(session, config, replication_is_set).await {
        Ok(plan) => plan,
        Err(error) => return Section::unknown_because(format!("{:#}", anyhow::Error::new(error))),
    };
    let objects = plan.steps.iter().map(|step| {
        let (state, details) = match &step.state {
            State::InOrder => ("in order", Vec::new()),
            State::Missing => ("missing", Vec::new()),
            State::Differs(differences) => {
                ("differs", differences.iter().map(|difference| difference.message.clone()).collect())
            }
        };
        Object { kind: step.kind(), name: step.object(), state, details }
    });
    Section::Known(Schema { keyspace: plan.settings.keyspace.clone(), objects: objects.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_keyspace_is_reported_instead_of_each_of_its_tables() {
        let object =
            |name: &str, state| Object { kind: "table", name: name.into(), state, details: Vec::new() };
        let mut schema = Schema {
            keyspace: "readings".into(),
            objects: vec![object("readings", "missing"), object("readings.a", "missing")],
        };
        assert_eq!(schema.attention(), ["keyspace readings does not exist (run `iotctl schema apply`)"]);
        schema.objects[0].state = "differs";
        let attention = schema.attention();
        assert!(attention[0].starts_with("readings.a is missing"), "{attention:?}");
        assert!(attention[1].starts_with("readings is not as defined"), "{attention:?}");
    }
}
