//! Names and addresses that Cassandra and Kafka accept.

use std::net::Ipv6Addr;

use super::check::{Checked, ensure};

/// Cassandra's limit on the name of a keyspace.
const MAX_KEYSPACE: usize = 48;
/// Kafka's limit on the name of a topic.
const MAX_TOPIC: usize = 249;

/// Reserved words of CQL, which cannot name a keyspace without quotes.
const RESERVED: &[&str] = &[
    "add",
    "allow",
    "alter",
    "and",
    "apply",
    "asc",
    "authorize",
    "batch",
    "begin",
    "by",
    "columnfamily",
    "create",
    "default",
    "delete",
    "desc",
    "describe",
    "drop",
    "entries",
    "execute",
    "from",
    "full",
    "grant",
    "if",
    "in",
    "index",
    "infinity",
    "insert",
    "into",
    "is",
    "keyspace",
    "limit",
    "materialized",
    "mbean",
    "mbeans",
    "modify",
    "nan",
    "norecursive",
    "not",
    "null",
    "of",
    "on",
    "or",
    "order",
    "primary",
    "rename",
    "replace",
    "revoke",
    "schema",
    "select",
    "set",
    "table",
    "to",
    "token",
    "truncate",
    "unlogged",
    "unset",
    "update",
    "use",
    "using",
    "view",
    "where",
    "with",
];

/// A keyspace that needs no quotes anywhere: CQL folds unquoted names to lower case.
pub(super) fn keyspace(key: &str, name: &str) -> Checked {
    ensure(!name.is_empty(), &[key], || "this is empty (set the name of the keyspace)".into())?;
    ensure(name.len() <= MAX_KEYSPACE, &[key], || {
        format!("{name:?} has {} characters, Cassandra allows {MAX_KEYSPACE} (shorten it)", name.len())
    })?;
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    ensure(starts_well && is_plain, &[key], || {
        format!(
            "{name:?} is not a plain CQL name (start with a letter; use lower-case letters, digits and _)"
        )
    })?;
    ensure(!RESERVED.contains(&name), &[key], || {
        format!("{name:?} is a reserved word of CQL (use another name)")
    })?;
    ensure(name != "system" && !name.starts_with("system_"), &[key], || {
        format!("{name:?} is reserved for Cassandra (use another name)")
    })
}

/// A topic, or a consumer group. Kafka allows more in the name of a group; other tools do not.
pub(super) fn kafka(key: &str, name: &str) -> Checked {
    ensure(!name.is_empty(), &[key], || "this is empty (set a name)".into())?;
    ensure(name.len() <= MAX_TOPIC, &[key], || {
        format!("it has {} characters, Kafka allows {MAX_TOPIC} (shorten it)", name.len())
    })?;
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    ensure(is_plain && name != "." && name != "..", &[key], || {
        format!("{name:?} is not a valid name in Kafka (use letters, digits, `.`, `_` and `-`)")
    })
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
pub(super) fn address(key: &str, address: &str) -> Checked {
    ensure(!address.contains("://"), &[key], || {
        format!("{address:?} has a scheme (write host:port; encryption has settings of its own)")
    })?;
    ensure(is_address(address), &[key], || {
        format!(
            "{address:?} is not host:port (write it like 10.0.0.5:9042, node1.example:9042 or [::1]:9042)"
        )
    })
}

fn is_address(address: &str) -> bool {
    let (host_is_valid, rest) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (host, rest) = address.split_at(address.find(':').unwrap_or(address.len()));
            (is_host(host), rest)
        }
    };
    let port_is_valid = match rest.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => rest.is_empty(),
    };
    host_is_valid && port_is_valid
}

/// A DNS name or an IPv4 address. `_` is allowed, because names in container networks contain it.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    !host.is_empty() && host.len() <= 253 && host.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_or_numbers_with_an_optional_port() {
        for good in
            ["node1", "node1:9042", "10.0.0.5:9042", "a_b.example.", "[::1]:9042", "[fe80::1]", "x:65535"]
        {
            assert!(address("k", good).is_ok(), "{good}");
        }
        for bad in
            ["", ":9042", "a:0", "a:65536", "a:b", "a b:1", "a..b", "::1", "[::1", "[x]:1", "a:1:2", "a/b"]
        {
            assert!(address("k", bad).is_err(), "{bad}");
        }
        let scheme = address("k", "PLAINTEXT://a:1").unwrap_err();
        assert!(scheme.problem.contains("scheme"), "{scheme}");
    }

    #[test]
    fn keyspaces_need_no_quotes() {
        for good in ["sensor_data_schema", "a1", &"k".repeat(48)] {
            assert!(keyspace("k", good).is_ok(), "{good}");
        }
        for bad in
            ["", "1a", "_a", "Upper", "a-b", "a.b", "select", "system", "system_auth", "ä", &"k".repeat(49)]
        {
            assert!(keyspace("k", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_have_the_characters_and_length_that_kafka_allows() {
        for good in ["iot-analytics-topic", "a.b_C-1", &"t".repeat(249)] {
            assert!(kafka("k", good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"t".repeat(250)] {
            assert!(kafka("k", bad).is_err(), "{bad}");
        }
    }
}
