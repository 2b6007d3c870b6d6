//! What the configuration decides about the schema: the keyspace's name, how it is replicated, how long readings
//! live, and the compaction window that follows from that.

use std::collections::BTreeMap;
use std::fmt;

use super::Error;
use crate::cassandra::NodeView;
use crate::cassandra::values::quoted;
use crate::config::Config;

/// What is filled into schema.cql.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub keyspace: String,
    pub replication: Replication,
    /// Seconds that a reading lives after it was written.
    pub ttl_seconds: u64,
    pub window: Window,
}

impl Settings {
    /// From a configuration that [`crate::config`] has checked: a plain name, a TTL in whole seconds within
    /// Cassandra's limit.
    pub fn new(config: &Config) -> Self {
        let replication = match config.schema.datacenters.is_empty() {
            true => Replication::Simple(config.schema.replication_factor),
            false => Replication::NetworkTopology(config.schema.datacenters.clone()),
        };
        let ttl_seconds = config.schema.ttl.as_secs();
        let keyspace = config.cassandra.keyspace.clone();
        // Rows expire by files: the windows are those of the rows that live longest.
        let longest = config.retention.iter().map(|(_, ttl)| ttl.as_secs()).fold(ttl_seconds, u64::max);
        Self { keyspace, replication, ttl_seconds, window: Window::for_ttl(longest) }
    }
}

/// How a keyspace spreads its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// SimpleStrategy with this factor.
    Simple(u32),
    /// NetworkTopologyStrategy: replicas by datacenter.
    NetworkTopology(BTreeMap<String, u32>),
    /// What somebody else chose, such as transient replication: kept as it is.
    Other(BTreeMap<String, String>),
}

impl Replication {
    /// From the `replication` of a keyspace: its options, among them the class.
    pub(super) fn from_options(options: &BTreeMap<String, String>) -> Self {
        let class = options.get("class").map(String::as_str).unwrap_or_default();
        let mut factors = options.iter().filter(|(name, _)| *name != "class");
        let parsed = match class.rsplit('.').next() {
            Some("SimpleStrategy") => {
                options.get("replication_factor").and_then(|factor| factor.parse().ok()).map(Self::Simple)
            }
            Some("NetworkTopologyStrategy") => factors
                .try_fold(BTreeMap::new(), |mut datacenters, (name, factor)| {
                    datacenters.insert(name.clone(), factor.parse().ok()?);
                    Some(datacenters)
                })
                .map(Self::NetworkTopology),
            _ => None,
        };
        parsed.unwrap_or_else(|| Self::Other(options.clone()))
    }

    /// Whether `nodes` (all that belong to the cluster, up or down) can hold that many replicas.
    pub(super) fn check_nodes(&self, nodes: &[NodeView]) -> Result<(), Error> {
        match self {
            Self::Simple(factor) if *factor as usize > nodes.len() => {
                Err(Error::TooFewNodes { wanted: *factor, nodes: nodes.len() })
            }
            Self::NetworkTopology(datacenters) => datacenters.iter().try_for_each(|(name, &wanted)| {
                match nodes.iter().filter(|node| node.datacenter == *name).count() {
                    0 => Err(Error::UnknownDatacenter { name: name.clone(), known: datacenters_of(nodes) }),
                    nodes if wanted as usize > nodes => {
                        Err(Error::TooFewNodesIn { datacenter: name.clone(), wanted, nodes })
                    }
                    _ => Ok(()),
                }
            }),
            _ => Ok(()),
        }
    }
}

fn datacenters_of(nodes: &[NodeView]) -> String {
    let names: std::collections::BTreeSet<_> = nodes.iter().map(|node| node.datacenter.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// As a CQL map.
impl fmt::Display for Replication {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Simple(factor) => {
                write!(formatter, "{{'class': 'SimpleStrategy', 'replication_factor': {factor}}}")
            }
            Self::NetworkTopology(datacenters) => {
                formatter.write_str("{'class': 'NetworkTopologyStrategy'")?;
                for (name, factor) in datacenters {
                    write!(formatter, ", {}: {factor}", quoted(name))?;
                }
                formatter.write_str("}")
            }
            Self::Other(options) => formatter.write_str(&map_literal(options)),
        }
    }
}

/// A CQL map of strings.
pub(super) fn map_literal(map: &BTreeMap<String, String>) -> String {
    let entries: Vec<_> =
        map.iter().map(|(key, value)| format!("{}: {}", quoted(key), quoted(value))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// A window of TimeWindowCompactionStrategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub size: u64,
    pub unit: WindowUnit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowUnit {
    Minutes,
    Hours,
    Days,
}

impl WindowUnit {
    /// As the option `compaction_window_unit` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Minutes => "MINUTES",
            Self::Hours => "HOURS",
            Self::Days => "DAYS",
        }
    }

    fn seconds(self) -> u64 {
        match self {
            Self::Minutes => 60,
            Self::Hours => 3600,
            Self::Days => 86_400,
        }
    }
}

/// Such as `4 days`.
impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.unit.name().to_ascii_lowercase();
        write!(formatter, "{} {}", self.size, if self.size == 1 { unit.trim_end_matches('s') } else { &unit })
    }
}

impl Window {
    /// The window, in the largest unit that does, that cuts the retention into 20 to 30 windows, as near to 25 as can
    /// be. Retention below 20 minutes gets the smallest window there is.
    pub fn for_ttl(ttl_seconds: u64) -> Self {
        const AIM: u64 = 25;
        let off = |window: &Self| (window.count(ttl_seconds) - AIM as f64).abs();
        [WindowUnit::Days, WindowUnit::Hours, WindowUnit::Minutes]
            .into_iter()
            .find_map(|unit| {
                let below = ttl_seconds / (AIM * unit.seconds());
                [below, below + 1]
                    .into_iter()
                    .map(|size| Self { size, unit })
                    .filter(|window| window.size > 0 && (20.0..=30.0).contains(&window.count(ttl_seconds)))
                    .min_by(|left, right| off(left).total_cmp(&off(right)))
            })
            .unwrap_or(Self { size: 1, unit: WindowUnit::Minutes })
    }

    pub fn seconds(&self) -> u64 {
        self.size * self.unit.seconds()
    }

    /// How many windows a retention of `ttl_seconds` spans.
    fn count(&self, ttl_seconds: u64) -> f64 {
        ttl_seconds as f64 / self.seconds() as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400;

    fn window(size: u64, unit: WindowUnit) -> Window {
        Window { size, unit }
    }

    #[test]
    fn windows_are_the_ones_an_operator_would_choose() {
        use WindowUnit::{Days, Hours, Minutes};
        for (ttl, expected) in [
            (DAY, window(1, Hours)),
            (7 * DAY, window(7, Hours)),
            (30 * DAY, window(1, Days)),
            (90 * DAY, window(4, Days)),
            (365 * DAY, window(15, Days)),
            (3650 * DAY, window(146, Days)),
            (3600, window(2, Minutes)),
            (60, window(1, Minutes)),
        ] {
            assert_eq!(Window::for_ttl(ttl), expected, "{ttl} s");
        }
    }

    proptest! {
        #[test]
        fn a_retention_of_a_day_to_twenty_years_has_20_to_30_windows(ttl in DAY..=20 * 365 * DAY) {
            let count = Window::for_ttl(ttl).count(ttl);
            prop_assert!((20.0..=30.0).contains(&count), "{} windows", count);
        }
    }

    fn node(datacenter: &str) -> NodeView {
        NodeView {
            address: ([127, 0, 0, 1], 9042).into(),
            host_id: uuid::Uuid::nil(),
            datacenter: datacenter.into(),
            rack: "rack1".into(),
            is_up: true,
        }
    }

    #[test]
    fn more_replicas_than_nodes_are_refused_with_the_remedy() {
        let error = Replication::Simple(3).check_nodes(&[node("dc1")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "3 replicas need 3 nodes and the cluster has 1 (use `--replication-factor 1`, or add nodes)"
        );
        assert!(Replication::Simple(1).check_nodes(&[node("dc1")]).is_ok());
    }

    #[test]
    fn replicas_are_counted_by_datacenter() {
        let wanted = |name: &str, factor| Replication::NetworkTopology([(name.to_owned(), factor)].into());
        let nodes = [node("dc1"), node("dc1"), node("dc2")];
        assert!(wanted("dc1", 2).check_nodes(&nodes).is_ok());
        let error = wanted("dc2", 2).check_nodes(&nodes).unwrap_err().to_string();
        assert!(error.contains("datacenter dc2 has 1"), "{error}");
        let error = wanted("dc3", 1).check_nodes(&nodes).unwrap_err().to_string();
        assert!(error.contains("no node is in datacenter dc3") && error.contains("dc1, dc2"), "{error}");
    }

    #[test]
    fn replication_reads_back_what_it_writes() {
        let live = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let simple: BTreeMap<_, _> =
            live(&[("class", "org.apache.cassandra.locator.SimpleStrategy"), ("replication_factor", "3")]);
        assert_eq!(Replication::from_options(&simple), Replication::Simple(3));
        let spread: BTreeMap<_, _> =
            live(&[("class", "org.apache.cassandra.locator.NetworkTopologyStrategy"), ("it's", "2")]);
        let spread = Replication::from_options(&spread);
        assert_eq!(spread.to_string(), "{'class': 'NetworkTopologyStrategy', 'it''s': 2}");
        let transient: BTreeMap<_, _> = live(&[("class", "SimpleStrategy"), ("replication_factor", "3/1")]);
        assert!(matches!(Replication::from_options(&transient), Replication::Other(_)));
    }
}
