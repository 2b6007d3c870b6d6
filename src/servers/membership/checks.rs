//! What must hold before a node joins or leaves. Each refusal says what is wrong and the remedy; all of them are
//! found at once, so that a plan is refused for its last reason too.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytesize::ByteSize;

use super::view::{Member, State, View};
use crate::cassandra::{Error, Session, system};

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
#[error("{} is refused{}", what, listed(reasons))]
pub struct Refused {
    pub what: String,
    pub reasons: Vec<String>,
}

/// One reason ends the line; more are a line each.
fn listed(reasons: &[String]) -> String {
    match reasons {
        [reason] => format!(": {reason}"),
        reasons => format!(":\n  {}", reasons.join("\n  ")),
    }
}

impl Refused {
    /// `Ok` where there is no reason.
    pub fn unless_none(what: impl Into<String>, reasons: Vec<String>) -> Result<(), Self> {
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(Self { what: what.into(), reasons }),
        }
    }
}

/// Every node but `except` must be up, normal, and known as that to every other one; the schema must be one.
pub fn all_is_quiet(view: &View, except: Option<IpAddr>) -> Vec<String> {
    let mut reasons = Vec::new();
    let concerns = |text: &str| except.is_none_or(|ip| !text.contains(&ip.to_string()));
    for member in view.members.iter().filter(|member| Some(member.ip()) != except) {
        let ip = member.ip();
        if member.state != State::Normal {
            reasons.push(format!("{ip} is {} (wait until it is done, or mend it)", member.state.name()));
        } else if !member.is_well() {
            reasons.push(format!(
                "{ip} is heard by {} of {} nodes (start it, or see its log; a dead one: `iotctl node replace {ip}`)",
                member.heard_by, member.asked
            ));
        }
    }
    reasons.extend(view.disagreements.iter().filter(|text| concerns(text)).cloned());
    let versions = view.schema_versions();
    if versions.len() > 1 {
        reasons.push(format!(
            "the nodes have {} versions of the schema (wait until they agree)",
            versions.len()
        ));
    }
    reasons
}

/// A keyspace and how often it is replicated: in all (SimpleStrategy), or by datacenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    pub name: String,
    pub factors: BTreeMap<String, usize>,
}

/// The key of [`Keyspace::factors`] for SimpleStrategy.
pub const EVERYWHERE: &str = "";

impl Keyspace {
    pub const SYSTEM: [&str; 3] = ["system_auth", "system_distributed", "system_traces"];

    pub fn is_system(&self) -> bool {
        Self::SYSTEM.contains(&self.name.as_str())
    }

    /// From system_schema.keyspaces; `None` for what every node has for itself.
    fn parse(name: String, options: &BTreeMap<String, String>) -> Option<Self> {
        let class = options.get("class")?.rsplit('.').next()?;
        let number = |text: &String| text.split('/').next().and_then(|text| text.parse::<usize>().ok());
        let factors = match class {
            "SimpleStrategy" => [(EVERYWHERE.to_owned(), number(options.get("replication_factor")?)?)].into(),
            "NetworkTopologyStrategy" => options
                .iter()
                .filter(|(key, _)| *key != "class")
                .filter_map(|(datacenter, text)| Some((datacenter.clone(), number(text)?)))
                .collect(),
            _ => return None,
        };
        Some(Self { name, factors })
    }

    /// Its factor and the nodes that would be left for it, where those are too few without the node `leaving`.
    fn shortage(&self, view: &View, leaving: &Member) -> Option<(usize, usize)> {
        self.factors.iter().find_map(|(datacenter, factor)| {
            let counts =
                |member: &&Member| datacenter == EVERYWHERE || member.datacenter.as_ref() == Some(datacenter);
            let left =
                view.members.iter().filter(counts).filter(|member| member.ip() != leaving.ip()).count();
            let is_concerned = counts(&leaving);
            (is_concerned && *factor > left).then_some((*factor, left))
        })
    }
}

/// All replicated keyspaces.
pub async fn keyspaces(session: &Session) -> Result<Vec<Keyspace>, Error> {
    let keyspaces = system::keyspaces(session).await?;
    Ok(keyspaces.into_iter().filter_map(|(name, options)| Keyspace::parse(name, &options)).collect())
}

/// Keyspaces that want more replicas than nodes would be left.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shortages {
    /// Whose factor only their owner may lower.
    pub of_users: Vec<String>,
    /// Cassandra's own, with the factor that fits.
    pub of_system: Vec<(String, usize)>,
}

pub fn shortages(view: &View, keyspaces: &[Keyspace], leaving: &Member) -> Shortages {
    let mut shortages = Shortages::default();
    for keyspace in keyspaces {
        let Some((factor, left)) = keyspace.shortage(view, leaving) else { continue };
        if keyspace.is_system() && keyspace.factors.contains_key(EVERYWHERE) {
            shortages.of_system.push((keyspace.name.clone(), left.max(1)));
        } else {
            shortages.of_users.push(format!(
                "{} has {factor} replicas and {left} nodes would be left for it (add a node first, or lower its \
                 replication factor and repair)",
                keyspace.name
            ));
        }
    }
    shortages
}

/// Disk that the data of a joining or leaving node must find: as much again for compaction, and a little.
pub fn disk_reasons(needed: f64, free: ByteSize, place: &str) -> Option<String> {
    let needed = ByteSize::b((needed * 2.0) as u64) + ByteSize::mib(256);
    (free < needed).then(|| {
        let [needed, free] = [needed, free].map(|size| size.display().iec().to_string());
        format!("{place} has {free} free and {needed} may be needed (make room)")
    })
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::view;
    use super::*;

    fn keyspace(name: &str, class: &str, options: &[(&str, &str)]) -> Keyspace {
        let mut options: BTreeMap<_, _> =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        options.insert("class".into(), format!("org.apache.cassandra.locator.{class}"));
        Keyspace::parse(name.into(), &options).unwrap()
    }

    #[test]
    fn a_node_that_is_not_normal_refuses_everything_but_itself() {
        assert_eq!(all_is_quiet(&view(&[State::Normal; 3]), None), Vec::<String>::new());
        let joining = view(&[State::Normal, State::Normal, State::Joining]);
        let reasons = all_is_quiet(&joining, None);
        assert!(reasons.len() == 1 && reasons[0].contains("127.0.0.3 is joining"), "{reasons:?}");
        assert_eq!(all_is_quiet(&joining, Some(joining.members[2].ip())), Vec::<String>::new());
    }

    #[test]
    fn a_replication_factor_above_the_remaining_nodes_is_a_shortage() {
        let view = view(&[State::Normal; 3]);
        let simple = |name, factor| keyspace(name, "SimpleStrategy", &[("replication_factor", factor)]);
        let keyspaces = [
            simple("readings", "3"),
            simple("small", "2"),
            simple("system_distributed", "3"),
            keyspace("by_dc", "NetworkTopologyStrategy", &[("dc1", "3")]),
            keyspace("elsewhere", "NetworkTopologyStrategy", &[("dc2", "3")]),
        ];
        let shortages = shortages(&view, &keyspaces, &view.members[0]);
        assert_eq!(shortages.of_system, [("system_distributed".to_owned(), 2)]);
        let named: Vec<_> = shortages.of_users.iter().map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(named, ["readings", "by_dc"]);
    }

    #[test]
    fn a_disk_must_take_the_data_twice() {
        assert_eq!(disk_reasons(1e9, ByteSize::gib(3), "/data"), None);
        let reason = disk_reasons(1e9, ByteSize::gib(2), "/data").unwrap();
        assert!(reason.contains("/data has 2.0 GiB free"), "{reason}");
    }
}
