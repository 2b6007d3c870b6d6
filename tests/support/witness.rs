//! The same tables by another driver (the `scylla` crate), so that a test of answers does not read its expectations
//! through the code that it tests.

use anyhow::Context as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;

use super::servers::CASSANDRA;

/// A session of the other driver, on one keyspace.
pub struct Witness {
    session: Session,
    keyspace: String,
}

impl Witness {
    pub(super) async fn connect(keyspace: &str) -> anyhow::Result<Self> {
        // It would read the tables of all tests before.
        let builder = SessionBuilder::new().known_node(CASSANDRA).fetch_schema_metadata(false);
        let session = builder.build().await?;
        Ok(Self { session, keyspace: keyspace.to_owned() })
    }

    /// All rows of a statement in which `{ks}` stands for the keyspace.
    pub(super) async fn rows<R>(&self, cql: &str) -> anyhow::Result<Vec<R>>
    where
        R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
    {
        let result = self.session.query_unpaged(cql.replace("{ks}", &self.keyspace), &[]).await?;
        let result = result.into_rows_result().context("the statement returns no rows")?;
        Ok(result.rows::<R>()?.collect::<Result<_, _>>()?)
    }
}
