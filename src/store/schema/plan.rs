//! What has to be done so that the live schema is the expected one, and doing it: one statement at a time, each
//! agreed on by all nodes before the next.

use super::definition::{Definition, Object};
use super::difference::{Difference, Remedy, State, compare};
use super::{Error, Replication, Settings, live, source};
use crate::cassandra::{NodeView, Session};
use crate::config::Config;

/// Each object of the schema and how it stands.
#[derive(Debug)]
pub struct Plan {
    pub settings: Settings,
    pub steps: Vec<Step>,
    /// What was decided for the user and is worth saying.
    pub notes: Vec<String>,
}

/// An object of the schema.
#[derive(Debug)]
pub struct Step {
    definition: Definition,
    pub state: State,
}

impl Step {
    /// `keyspace` or `keyspace.table`.
    pub fn object(&self) -> String {
        self.definition.qualified_name()
    }

    /// What kind of object it is.
    pub fn kind(&self) -> &'static str {
        match self.definition.object {
            Object::Keyspace => "keyspace",
            Object::Table(..) => "table",
            Object::View(..) => "view",
        }
    }
}

/// Whether options that differ from the configuration are left alone, which stops the plan, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingOptions {
    Keep,
    Alter,
}

/// A statement that a plan runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `keyspace`, `table` or `view`.
    pub kind: &'static str,
    /// `keyspace` or `keyspace.table`.
    pub object: String,
    /// `created` or `altered`, once it has been run.
    pub outcome: &'static str,
    /// Without a semicolon.
    pub cql: String,
}

impl Plan {
    /// Compares the cluster with schema.cql. `replication_is_set` says whether the user chose the replication: one
    /// that comes from the defaults gives way to what the keyspace already has, and to a local cluster of one node.
    pub async fn make(session: &Session, config: &Config, replication_is_set: bool) -> Result<Self, Error> {
        let mut settings = Settings::new(config);
        let live =
            live::read(session, &settings.keyspace).await.map_err(failed_to("read the live schema"))?;
        let place = Place { nodes: &session.nodes(), contact_points: &config.cassandra.contact_points };
        let (replication, note) =
            place.replication(&settings, replication_is_set, live.replication.as_ref())?;
        settings.replication = replication;
        let steps: Vec<_> = source::definitions(&settings)?
            .into_iter()
            .map(|definition| Step { state: compare(&definition, &live, &settings), definition })
            .collect();
        let needs_views = steps.iter().any(|step| step.kind() == "view" && step.state == State::Missing);
        if needs_views && !views_are_enabled(session).await {
            return Err(Error::ViewsDisabled);
        }
        Ok(Self { settings, steps, notes: note.into_iter().collect() })
    }

    /// Every point in which the live schema is another one; what is missing is not among them.
    pub fn differences(&self) -> impl Iterator<Item = &Difference> {
        self.steps.iter().flat_map(|step| match &step.state {
            State::Differs(differences) => differences.as_slice(),
            State::Missing | State::InOrder => &[],
        })
    }

    /// The objects that have to be created.
    pub fn missing(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.state == State::Missing)
    }

    /// The statements to run, in their order.
    ///
    /// # Errors
    /// [`Error::Differs`] where something exists that is not as defined and may not be altered.
    pub fn changes(&self, options: ExistingOptions) -> Result<Vec<Change>, Error> {
        let may_be_altered = |difference: &&Difference| match difference.remedy {
            Remedy::Option(_) => options == ExistingOptions::Alter,
            Remedy::Column(_) => true,
            Remedy::None => false,
        };
        if !self.differences().all(|difference| may_be_altered(&difference)) {
            return Err(Error::Differs(self.differences().cloned().collect()));
        }
        Ok(self.steps.iter().flat_map(Step::changes).collect())
    }

    /// Brings each object into order; `done` hears of it and of the changes it took, as soon as all nodes have them.
    /// May be dropped at any time: what is done stays done, and making another plan goes on from there.
    ///
    /// # Errors
    /// As [`Plan::changes`], and then nothing was changed; or the first change that fails.
    pub async fn apply(
        &self,
        session: &Session,
        options: ExistingOptions,
        mut done: impl FnMut(&Step, &[Change]),
    ) -> Result<(), Error> {
        let agreement = async || {
            let agreed = session.await_schema_agreement().await;
            agreed.map_err(failed_to("change the schema while nodes disagree on it"))
        };
        if !self.changes(options)?.is_empty() {
            agreement().await?;
        }
        for step in &self.steps {
            let changes = step.changes();
            for change in &changes {
                session.query(&change.cql).await.map_err(|error| refused(change, error))?;
                agreement().await?;
            }
            done(step, &changes);
        }
        Ok(())
    }
}

impl Step {
    fn changes(&self) -> Vec<Change> {
        let change = |outcome, cql: &str| Change {
            kind: self.kind(),
            object: self.object(),
            outcome,
            cql: cql.to_owned(),
        };
        match &self.state {
            State::InOrder => Vec::new(),
            State::Missing => vec![change("created", &self.definition.cql)],
            State::Differs(differences) => differences
                .iter()
                .filter_map(|difference| match &difference.remedy {
                    Remedy::Option(cql) | Remedy::Column(cql) => Some(change("altered", cql)),
                    Remedy::None => None,
                })
                .collect(),
        }
    }
}

fn failed_to(action: &'static str) -> impl Fn(crate::cassandra::Error) -> Error {
    move |source| Error::Cassandra { action: action.to_owned(), source }
}

fn refused(change: &Change, source: crate::cassandra::Error) -> Error {
    if source.to_string().to_lowercase().contains("materialized views are disabled") {
        return Error::ViewsDisabled;
    }
    let verb = if change.outcome == "created" { "create" } else { "alter" };
    Error::Cassandra { action: format!("{verb} {} {}", change.kind, change.object), source }
}

/// What a node says of its own settings; where it says nothing (Cassandra before 4.0, or no permission to ask), the
/// CREATE statement will tell.
async fn views_are_enabled(session: &Session) -> bool {
    // The second name is that of Cassandra 4.0.
    const QUERY: &str = "SELECT value FROM system_views.settings \
                         WHERE name IN ('materialized_views_enabled', 'enable_materialized_views')";
    match session.query(QUERY).await {
        Ok(rows) => !rows.iter().any(|row| row.get::<&str>(0).is_ok_and(|value| value == "false")),
        Err(_) => true,
    }
}

/// Where the schema is applied.
struct Place<'a> {
    nodes: &'a [NodeView],
    contact_points: &'a [String],
}

impl Place<'_> {
    /// The replication to expect, and why, where it is not the configured one.
    fn replication(
        &self,
        settings: &Settings,
        is_set: bool,
        live: Option<&Replication>,
    ) -> Result<(Replication, Option<String>), Error> {
        let wanted = &settings.replication;
        if is_set {
            return wanted.check_nodes(self.nodes).map(|()| (wanted.clone(), None));
        }
        let one_copy = "one local node: replication factor 1, so each reading is stored once \
                        (a cluster of three nodes or more keeps three copies)";
        let is_one_copy = |live: &Replication| self.is_one_local_node() && *live == Replication::Simple(1);
        match live.filter(|live| live.check_nodes(self.nodes).is_ok()) {
            Some(live) if live == wanted => return Ok((live.clone(), None)),
            Some(live) if is_one_copy(live) => return Ok((live.clone(), Some(one_copy.to_owned()))),
            Some(live) => {
                let keyspace = &settings.keyspace;
                let note = format!(
                    "keyspace {keyspace} keeps its replication {live}: schema.replication_factor is not set"
                );
                return Ok((live.clone(), Some(note)));
            }
            None => {}
        }
        match wanted.check_nodes(self.nodes) {
            Ok(()) => Ok((wanted.clone(), None)),
            Err(_) if self.is_one_local_node() => Ok((Replication::Simple(1), Some(one_copy.to_owned()))),
            Err(error) => Err(error),
        }
    }

    fn is_one_local_node(&self) -> bool {
        self.nodes.len() == 1 && self.contact_points.iter().all(|point| is_loopback(point))
    }
}

/// Whether a contact point (`host`, `host:port`, `[v6]:port`) is this machine.
fn is_loopback(contact_point: &str) -> bool {
    let is_loopback = |host: &str| host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let host = contact_point.rsplit_once(':').map_or(contact_point, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || is_loopback(host) || is_loopback(contact_point)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<NodeView> {
        let node = |host| NodeView {
            address: ([127, 0, 0, host], 9042).into(),
            host_id: uuid::Uuid::nil(),
            datacenter: "dc1".into(),
            rack: "rack1".into(),
            is_up: true,
        };
        (1..=count as u8).map(node).collect()
    }

    fn decide(
        count: usize,
        contact_point: &str,
        is_set: bool,
        live: Option<u32>,
    ) -> Result<(Replication, Option<String>), Error> {
        let (nodes, contact_points) = (nodes(count), [contact_point.to_owned()]);
        let place = Place { nodes: &nodes, contact_points: &contact_points };
        let settings = Settings::new(&Config::default());
        place.replication(&settings, is_set, live.map(Replication::Simple).as_ref())
    }

    #[test]
    fn one_local_node_runs_with_one_replica_and_says_so() {
        let (replication, note) = decide(1, "localhost", false, None).unwrap();
        assert_eq!(replication, Replication::Simple(1));
        assert!(note.unwrap().starts_with("one local node: replication factor 1"));
        // And again when the keyspace is there.
        let (replication, note) = decide(1, "localhost", false, Some(1)).unwrap();
        assert_eq!(replication, Replication::Simple(1));
        assert!(note.unwrap().starts_with("one local node"));
    }

    #[test]
    fn a_chosen_factor_and_a_remote_node_are_not_second_guessed() {
        let too_few = |result| matches!(result, Err(Error::TooFewNodes { wanted: 3, nodes: 1 }));
        assert!(too_few(decide(1, "127.0.0.1", true, None)));
        assert!(too_few(decide(1, "10.0.0.7:9042", false, None)));
        assert!(matches!(
            decide(2, "127.0.0.1", false, None),
            Err(Error::TooFewNodes { wanted: 3, nodes: 2 })
        ));
        assert_eq!(decide(3, "10.0.0.7:9042", false, None).unwrap(), (Replication::Simple(3), None));
    }

    #[test]
    fn a_default_gives_way_to_what_the_keyspace_has() {
        let (replication, note) = decide(3, "10.0.0.7", false, Some(2)).unwrap();
        assert_eq!(replication, Replication::Simple(2));
        assert!(note.unwrap().contains("keeps its replication"));
        assert_eq!(decide(3, "10.0.0.7", true, Some(2)).unwrap(), (Replication::Simple(3), None));
    }

    #[test]
    fn a_keyspace_that_its_cluster_cannot_hold_is_not_kept() {
        // As `cqlsh -f schema.cql` on one node leaves it: no write at LOCAL_QUORUM would succeed.
        let (replication, _) = decide(1, "127.0.0.1", false, Some(3)).unwrap();
        assert_eq!(replication, Replication::Simple(1));
    }

    #[test]
    fn loopback_is_known_in_each_way_of_writing_it() {
        for local in ["127.0.0.1:9042", "127.0.3.4", "localhost", "LocalHost:9042", "[::1]:9042", "::1"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in
            ["10.0.0.1:9042", "cassandra", "localhost.example.com:9042", "fe80::1", "[2001:db8::1]:9042"]
        {
            assert!(!is_loopback(remote), "{remote}");
        }
    }
}
