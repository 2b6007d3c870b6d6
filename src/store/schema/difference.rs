//! Where the live schema is not the expected one. A difference of shape (columns, types, keys) is a person's to
//! resolve; a difference of options (retention, window, replication) can be resolved by one ALTER.

use std::collections::BTreeMap;
use std::fmt;

use super::definition::{Definition, Object, Shape, View};
use super::live::Live;
use super::settings::map_literal;
use super::{Replication, Settings};
use crate::store::shape::{NARROW_TYPE, OTHERS, STATES, WIDE_OTHERS};

/// One point in which a live object differs from its definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `keyspace` or `keyspace.table`.
    pub object: String,
    /// What is, and what is expected instead.
    pub message: String,
    pub remedy: Remedy,
}

/// What resolves a [`Difference`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// This statement changes an option; `schema apply --alter-options` runs it.
    Option(String),
    /// This statement adds a column, which no existing row or program is affected by; `schema apply` runs it.
    Column(String),
    /// Nothing short of another table.
    None,
}

/// As one line: what differs and, in brackets, the statement that resolves it.
impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.object, self.message)?;
        match &self.remedy {
            Remedy::Option(cql) | Remedy::Column(cql) => write!(formatter, " ({cql};)"),
            Remedy::None => Ok(()),
        }
    }
}

/// Whether an object has to be created, is as defined, or is something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Missing,
    InOrder,
    Differs(Vec<Difference>),
}

/// Compares a definition with what is there.
pub(super) fn compare(definition: &Definition, live: &Live, settings: &Settings) -> State {
    let mut found = ObjectDifferences { object: definition.qualified_name(), differences: Vec::new() };
    match &definition.object {
        Object::Keyspace => match &live.replication {
            None => return State::Missing,
            Some(replication) => found.replication(&settings.replication, replication),
        },
        Object::Table(name, expected) => match (live.tables.get(name), live.views.contains_key(name)) {
            (None, false) => return State::Missing,
            (None, true) => found.shape("it is a materialized view and not a table".into()),
            (Some(live), _) => found.table(expected, live),
        },
        Object::View(name, expected) => match (live.views.get(name), live.tables.contains_key(name)) {
            (None, false) => return State::Missing,
            (None, true) => found.shape("it is a table and not a materialized view".into()),
            (Some(live), _) => found.view(expected, live),
        },
    }
    match found.differences.is_empty() {
        true => State::InOrder,
        false => State::Differs(found.differences),
    }
}

fn is_map_of_earlier_version(name: &str, live_type: &str, cql_type: &str) -> bool {
    [OTHERS, STATES].contains(&name) && live_type == format!("frozen<{cql_type}>")
}

struct ObjectDifferences {
    object: String,
    differences: Vec<Difference>,
}

impl ObjectDifferences {
    fn add(&mut self, message: String, remedy: Remedy) {
        self.differences.push(Difference { object: self.object.clone(), message, remedy });
    }

    fn shape(&mut self, message: String) {
        self.add(message, Remedy::None);
    }

    fn replication(&mut self, expected: &Replication, live: &Replication) {
        if expected != live {
            let alter = format!("ALTER KEYSPACE {} WITH replication = {expected}", self.object);
            self.add(format!("replication is {live} and not {expected}"), Remedy::Option(alter));
        }
    }

    fn table(&mut self, expected: &Shape, live: &Shape) {
        if !self.columns_and_keys(expected, live) {
            return;
        }
        if let (Some(expected), Some(live)) = (&expected.ttl, &live.ttl)
            && expected != live
        {
            let alter = format!("ALTER TABLE {} WITH default_time_to_live = {expected}", self.object);
            self.add(format!("default_time_to_live is {live} and not {expected}"), Remedy::Option(alter));
        }
        self.compaction(&expected.compaction, &live.compaction);
    }

    fn view(&mut self, expected: &View, live: &View) {
        if expected.base != live.base {
            self.shape(format!("it is a view of {} and not of {}", live.base, expected.base));
        }
        if !expected.condition.eq_ignore_ascii_case(&live.condition) {
            self.shape(format!("its condition is {} and not {}", live.condition, expected.condition));
        }
        self.columns_and_keys(&expected.shape, &live.shape);
    }

    /// Returns whether it is worth going on: a table with another key is another table, and whatever else could be
    /// said about it would only hide that.
    fn columns_and_keys(&mut self, expected: &Shape, live: &Shape) -> bool {
        if expected.primary_key() != live.primary_key() {
            let (live, expected) = (live.primary_key(), expected.primary_key());
            self.shape(format!("the primary key is {live} and not {expected}"));
            return false;
        }
        if expected.clustering != live.clustering {
            let (live, expected) = (live.clustering_order(), expected.clustering_order());
            self.shape(format!("the clustering order is {live} and not {expected}"));
        }
        self.columns(expected, live);
        true
    }

    fn columns(&mut self, expected: &Shape, live: &Shape) {
        for (name, cql_type) in &expected.columns {
            match live.columns.get(name) {
                None if cql_type.is_empty() => self.shape(format!("column {name} is missing")),
                None => {
                    let alter = format!("ALTER TABLE {} ADD {name} {cql_type}", self.object);
                    self.add(format!("column {name} is missing"), Remedy::Column(alter));
                }
                // Its type cannot be altered, and the rows of the first version stay readable: see `store::shape`.
                Some(live_type) if name == OTHERS && live_type == NARROW_TYPE => {
                    if !live.columns.contains_key(WIDE_OTHERS) {
                        let alter = format!("ALTER TABLE {} ADD {WIDE_OTHERS} {cql_type}", self.object);
                        let message = format!(
                            "column {name} has 32-bit floats, as in the first version, and column {WIDE_OTHERS} is \
                             missing beside it"
                        );
                        self.add(message, Remedy::Column(alter));
                    }
                }
                // Neither can that of a frozen map, which is written whole: see `store::writes`.
                Some(live_type) if is_map_of_earlier_version(name, live_type, cql_type) => {}
                // The type of a view's column is the base table's, and compared there.
                Some(live) if live != cql_type && !cql_type.is_empty() => {
                    self.shape(format!("column {name} is {live} and not {cql_type}"));
                }
                Some(_) => {}
            }
        }
        for (name, cql_type) in &live.columns {
            let is_of_old_table =
                name == WIDE_OTHERS && live.columns.get(OTHERS).is_some_and(|live| live == NARROW_TYPE);
            if !expected.columns.contains_key(name) && !is_of_old_table {
                self.shape(format!("column {name} ({cql_type}) is not in schema.cql"));
            }
        }
    }

    /// Only the options that the definition states; thresholds and the like are the operator's.
    fn compaction(&mut self, expected: &BTreeMap<String, String>, live: &BTreeMap<String, String>) {
        let stated = |key: &str| live.get(key).map_or("not set", |value| unqualified(value));
        let mut differing: Vec<_> = expected.iter().filter(|(key, value)| stated(key) != *value).collect();
        let is_same_class = stated("class") == expected.get("class").map_or("not set", String::as_str);
        if !is_same_class {
            // The options of another strategy say nothing.
            differing.retain(|(key, _)| *key == "class");
        }
        if differing.is_empty() {
            return;
        }
        // ALTER replaces the whole map: the operator's own options of the same strategy are kept.
        let mut altered = if is_same_class { live.clone() } else { BTreeMap::new() };
        altered.extend(expected.clone());
        let alter = format!("ALTER TABLE {} WITH compaction = {}", self.object, map_literal(&altered));
        let messages: Vec<_> = differing
            .into_iter()
            .map(|(key, value)| {
                format!("{} is {} and not {value}", key.trim_start_matches("compaction_"), stated(key))
            })
            .collect();
        self.add(format!("compaction {}", messages.join(", ")), Remedy::Option(alter));
    }
}

/// A class without its package.
fn unqualified(class: &str) -> &str {
    class.rsplit('.').next().unwrap_or(class)
}

#[cfg(test)]
mod tests {
    use super::super::definition::Order;
    use super::super::source;
    use super::*;
    use crate::config::Config;

    fn settings() -> Settings {
        Settings::new(&Config::default())
    }

    /// A cluster that has everything as it is defined.
    fn live_as_defined() -> Live {
        let mut live = Live { replication: Some(Replication::Simple(3)), ..Live::default() };
        for definition in source::definitions(&settings()).unwrap() {
            match definition.object {
                Object::Keyspace => {}
                Object::Table(name, mut shape) => {
                    shape.ttl.get_or_insert_with(|| "0".into());
                    if let Some(class) = shape.compaction.get_mut("class") {
                        *class = format!("org.apache.cassandra.db.compaction.{class}");
                        shape.compaction.insert("min_threshold".into(), "4".into());
                    }
                    live.tables.insert(name, shape);
                }
                Object::View(name, mut view) => {
                    view.shape.columns.values_mut().for_each(|cql_type| *cql_type = "text".into());
                    live.views.insert(name, view);
                }
            }
        }
        live
    }

    /// Every difference, as "table: message", after `change` to a live schema that was in order.
    fn after(change: impl FnOnce(&mut Live)) -> Vec<Difference> {
        let mut live = live_as_defined();
        change(&mut live);
        let settings = settings();
        source::definitions(&settings)
            .unwrap()
            .iter()
            .flat_map(|definition| match compare(definition, &live, &settings) {
                State::Differs(differences) => differences,
                State::Missing | State::InOrder => Vec::new(),
            })
            .collect()
    }

    fn lines(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn a_schema_as_defined_has_no_differences() {
        assert_eq!(after(|_| {}), []);
    }

    #[test]
    fn an_empty_cluster_misses_everything() {
        for definition in source::definitions(&settings()).unwrap() {
            assert_eq!(compare(&definition, &Live::default(), &settings()), State::Missing);
        }
    }

    #[test]
    fn columns_that_are_missing_extra_or_of_another_type_are_named() {
        let differences = after(|live| {
            let columns = &mut live.tables.get_mut("iot_latest").unwrap().columns;
            columns.remove("pressure");
            columns.insert("colour".into(), "text".into());
            columns.insert("humidity".into(), "double".into());
        });
        assert_eq!(
            lines(&differences),
            [
                "sensor_data_schema.iot_latest: column humidity is double and not float",
                "sensor_data_schema.iot_latest: column pressure is missing \
                 (ALTER TABLE sensor_data_schema.iot_latest ADD pressure float;)",
                "sensor_data_schema.iot_latest: column colour (text) is not in schema.cql",
            ]
        );
    }

    #[test]
    fn a_table_of_the_first_version_gets_columns_and_is_then_as_it_should_be() {
        let first_version = |live: &mut Live| {
            for table in ["iot_sensor_metrics", "iot_latest"] {
                let columns = &mut live.tables.get_mut(table).unwrap().columns;
                columns.insert("other_metrics".into(), "frozen<map<text, float>>".into());
                columns.remove("states");
            }
        };
        let differences = after(first_version);
        let statements: Vec<_> = differences
            .iter()
            .map(|difference| match &difference.remedy {
                Remedy::Column(cql) => cql.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        let raw = "ALTER TABLE sensor_data_schema.iot_sensor_metrics ADD";
        assert_eq!(statements.len(), 4);
        assert!(statements.contains(&format!("{raw} other_metrics_64 map<text, double>").as_str()));
        assert!(statements.contains(&format!("{raw} states map<text, text>").as_str()));
        let migrated = after(|live| {
            first_version(live);
            for table in ["iot_sensor_metrics", "iot_latest"] {
                let columns = &mut live.tables.get_mut(table).unwrap().columns;
                columns.insert("other_metrics_64".into(), "frozen<map<text, double>>".into());
                columns.insert("states".into(), "frozen<map<text, text>>".into());
            }
        });
        assert_eq!(migrated, []);
        let frozen = after(|live| {
            let columns = &mut live.tables.get_mut("iot_sensor_metrics").unwrap().columns;
            columns.insert("other_metrics".into(), "frozen<map<text, double>>".into());
            columns.insert("states".into(), "frozen<map<text, text>>".into());
        });
        assert_eq!(frozen, [], "maps of the second version are kept");
        let needless = after(|live| {
            let columns = &mut live.tables.get_mut("iot_latest").unwrap().columns;
            columns.insert("other_metrics_64".into(), "frozen<map<text, double>>".into());
        });
        assert!(needless[0].message.contains("other_metrics_64"), "{needless:?}");
    }

    #[test]
    fn another_key_or_order_is_named() {
        let differences = after(|live| {
            let raw = live.tables.get_mut("iot_sensor_metrics").unwrap();
            raw.partition_key.pop();
            // What follows from the other key is not listed beside it.
            raw.columns.remove("bucket");
            raw.ttl = Some("0".into());
            let partitions = live.tables.get_mut("sensor_partitions").unwrap();
            partitions.clustering[0].1 = Order::Ascending;
        });
        assert_eq!(
            lines(&differences),
            [
                "sensor_data_schema.iot_sensor_metrics: the primary key is \
                 ((location, device_type), iot_sensor_id, recorded_timestamp) and not \
                 ((location, device_type, bucket), iot_sensor_id, recorded_timestamp)",
                "sensor_data_schema.sensor_partitions: the clustering order is \
                 (bucket ASC, bucket_seconds ASC) and not (bucket DESC, bucket_seconds ASC)",
            ]
        );
    }

    #[test]
    fn options_differ_with_the_statement_that_changes_them() {
        let differences = after(|live| {
            live.replication = Some(Replication::Simple(1));
            let raw = live.tables.get_mut("iot_sensor_metrics").unwrap();
            raw.ttl = Some("60".into());
            raw.compaction.insert("compaction_window_size".into(), "1".into());
        });
        assert_eq!(differences[2].message, "compaction window_size is 1 and not 4");
        let remedies: Vec<_> = differences.iter().map(|difference| &difference.remedy).collect();
        let option = |cql: &str| Remedy::Option(cql.to_owned());
        assert_eq!(
            remedies,
            [
                &option(
                    "ALTER KEYSPACE sensor_data_schema WITH replication = \
                     {'class': 'SimpleStrategy', 'replication_factor': 3}"
                ),
                &option(
                    "ALTER TABLE sensor_data_schema.iot_sensor_metrics WITH default_time_to_live = 7776000"
                ),
                // The operator's own min_threshold survives.
                &option(
                    "ALTER TABLE sensor_data_schema.iot_sensor_metrics WITH compaction = \
                     {'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': '4', \
                     'compaction_window_unit': 'DAYS', 'min_threshold': '4'}"
                ),
            ]
        );
    }

    #[test]
    fn another_strategy_is_replaced_with_its_options() {
        let differences = after(|live| {
            let raw = live.tables.get_mut("iot_sensor_metrics").unwrap();
            raw.compaction = [
                (
                    "class".to_owned(),
                    "org.apache.cassandra.db.compaction.SizeTieredCompactionStrategy".to_owned(),
                ),
                ("bucket_high".to_owned(), "2".to_owned()),
            ]
            .into();
        });
        let [difference] = differences.as_slice() else { panic!("{differences:?}") };
        assert_eq!(
            difference.message,
            "compaction class is SizeTieredCompactionStrategy and not TimeWindowCompactionStrategy"
        );
        let Remedy::Option(alter) = &difference.remedy else { panic!("{difference}") };
        assert!(alter.contains("'compaction_window_size': '4'") && !alter.contains("bucket_high"), "{alter}");
    }

    #[test]
    fn a_table_in_the_place_of_the_view_and_another_view_are_named() {
        let differences = after(|live| {
            live.views.clear();
            live.tables.insert("iot_sensors_by_id".into(), Shape::default());
        });
        assert!(differences[0].message.contains("a table and not a materialized view"));
        let differences = after(|live| {
            let view = live.views.get_mut("iot_sensors_by_id").unwrap();
            view.base = "iot_latest".into();
            view.condition = "location = 'here'".into();
        });
        assert!(differences[0].message.contains("a view of iot_latest and not of iot_sensors"));
        assert!(
            differences[1].message.starts_with("its condition is location = 'here' and not iot_sensor_id")
        );
    }
}
