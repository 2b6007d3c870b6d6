//! schema.cql with the settings filled in, and the objects that its statements define.

use super::definition::{self, Definition};
use super::lexer::{self, Kind, Token};
use super::{Error, Settings};

/// The one source of the schema.
const SOURCE: &str = include_str!("../../../schema.cql");
/// The keyspace that it names.
const KEYSPACE: &str = "sensor_data_schema";

/// schema.cql with `settings` filled in, comments and all; valid CQL for cqlsh.
pub fn filled(settings: &Settings) -> Result<String, Error> {
    fill(SOURCE, settings)
}

/// The objects that schema.cql defines with `settings`, in the order they have to be created in.
pub(super) fn definitions(settings: &Settings) -> Result<Vec<Definition>, Error> {
    let source = filled(settings)?;
    let tokens = lexer::tokens(&source)?;
    lexer::statements(&tokens).map(|statement| definition::parse(&source, statement)).collect()
}

fn fill(source: &str, settings: &Settings) -> Result<String, Error> {
    let tokens = lexer::tokens(source)?;
    let mut filled = String::with_capacity(source.len() + 256);
    let mut copied = 0;
    let mut at = 0;
    while at < tokens.len() {
        let (length, value) = match replacement(&tokens[at..], settings) {
            Some((first, length, value)) => {
                at += first;
                (length, value)
            }
            None => {
                at += 1;
                continue;
            }
        };
        filled.push_str(&source[copied..tokens[at].start]);
        filled.push_str(&value);
        at += length;
        copied = tokens[at - 1].end();
    }
    filled.push_str(&source[copied..]);
    Ok(filled)
}

/// What to put in place of the value that `rest` begins with: the value's first token, how many tokens, the text.
fn replacement(rest: &[Token<'_>], settings: &Settings) -> Option<(usize, usize, String)> {
    let first = rest.first()?;
    let follows = |symbol: &str| rest.get(1).is_some_and(|token| token.is(symbol));
    if first.is(KEYSPACE) {
        return Some((0, 1, settings.keyspace.clone()));
    }
    if first.is("replication") && follows("=") {
        let length = rest[2..].iter().position(|token| token.is("}"))? + 1;
        return Some((2, length, settings.replication.to_string()));
    }
    if first.is("default_time_to_live") && follows("=") {
        return Some((2, 1, settings.ttl_seconds.to_string()));
    }
    if first.kind == Kind::Text && follows(":") {
        return match first.value()?.as_str() {
            "compaction_window_unit" => Some((2, 1, format!("'{}'", settings.window.unit.name()))),
            "compaction_window_size" => Some((2, 1, settings.window.size.to_string())),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    #[test]
    fn the_file_as_it_stands_is_what_the_defaults_fill_in() {
        let defaults = Settings::new(&Config::default());
        assert_eq!(filled(&defaults).unwrap(), SOURCE);
    }

    #[test]
    fn settings_reach_every_statement_and_no_comment() {
        let mut config = Config::default();
        config.cassandra.keyspace = "plant".into();
        config.schema.ttl = Duration::from_secs(86_400);
        config.schema.datacenters = [("dc1".to_owned(), 3), ("dc2".to_owned(), 2)].into();
        let cql = filled(&Settings::new(&config)).unwrap();
        assert!(!cql.contains(KEYSPACE), "{cql}");
        for expected in [
            "CREATE KEYSPACE IF NOT EXISTS plant\n",
            "replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3, 'dc2': 2};",
            "CREATE TABLE IF NOT EXISTS plant.iot_sensor_metrics (",
            "FROM plant.iot_sensors\n",
            "AND default_time_to_live = 86400\n",
            "'compaction_window_unit': 'HOURS',\n        'compaction_window_size': 1\n",
        ] {
            assert!(cql.contains(expected), "no {expected:?} in {cql}");
        }
        let source = "-- sensor_data_schema\nUSE sensor_data_schema; -- default_time_to_live = 1\n";
        let settings = Settings::new(&config);
        let filled = fill(source, &settings).unwrap();
        assert_eq!(filled, "-- sensor_data_schema\nUSE plant; -- default_time_to_live = 1\n");
    }

    #[test]
    fn a_keyspace_named_like_the_option_is_filled_in_once() {
        let mut config = Config::default();
        config.cassandra.keyspace = "replication".into();
        let cql = filled(&Settings::new(&config)).unwrap();
        assert!(
            cql.contains("CREATE KEYSPACE IF NOT EXISTS replication\nWITH replication = {'class'"),
            "{cql}"
        );
    }

    #[test]
    fn every_statement_creates_only_what_is_missing() {
        let settings = Settings::new(&Config::default());
        let definitions = definitions(&settings).unwrap();
        let names: Vec<_> = definitions.iter().map(Definition::qualified_name).collect();
        assert_eq!(
            names,
            [
                "sensor_data_schema",
                "sensor_data_schema.iot_sensor_metrics",
                "sensor_data_schema.sensor_partitions",
                "sensor_data_schema.sensor_groups",
                "sensor_data_schema.iot_sensors",
                "sensor_data_schema.iot_sensors_by_id",
                "sensor_data_schema.iot_latest",
                "sensor_data_schema.iot_rollups",
                "sensor_data_schema.iot_daily_rollups",
                "sensor_data_schema.iot_group_rollups",
                "sensor_data_schema.rollup_coverage",
                "sensor_data_schema.rollup_dirty",
                "sensor_data_schema.rollup_leases",
                "sensor_data_schema.iot_forecasts",
                "sensor_data_schema.iot_mappings",
                "sensor_data_schema.iot_detector_states",
                "sensor_data_schema.iot_detector_positions",
            ]
        );
        for definition in &definitions {
            assert!(definition.cql.contains(" IF NOT EXISTS "), "{}", definition.cql);
        }
    }
}
