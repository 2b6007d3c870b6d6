//! tables.md: the keyspace's tables, from schema.cql.

use std::fmt::Write as _;

use super::{GENERATED, table};
use crate::config::Config;
use crate::store::schema::{Settings, describe};

const HEAD: &str = "\
`iotctl schema apply` creates these tables, `iotctl schema show` prints them as CQL with the settings filled in. Values that \
were not measured have no cell. Programs of your own may read the tables; only `iotctl` may write them, because several rows \
have to agree with each other.";

pub(super) fn page() -> anyhow::Result<String> {
    let mut page = format!("# Tables\n\n{GENERATED}\n\n{HEAD}\n");
    for object in describe::objects(&Settings::new(&Config::default()))? {
        let _ = write!(page, "\n## {}\n\n{}\n\n", object.name, object.about);
        let mut facts = vec![format!("Primary key: `{}`", object.primary_key)];
        if let Some(base) = &object.base {
            facts.push(format!("Materialized view of [{base}](#{base})"));
        }
        if let Some(ttl) = &object.time_to_live {
            facts.push(format!("Time to live: {ttl} s by default (`schema.ttl`)"));
        }
        let _ = write!(page, "{}.\n\n", facts.join(". "));
        let rows = object.columns.into_iter().map(|column| {
            vec![
                format!("`{}`", column.name),
                format!("`{}`", column.kind),
                column.role.to_owned(),
                column.about,
            ]
        });
        page.push_str(&table(&["column", "type", "key", "meaning"], rows));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_its_prose_its_key_and_its_columns_in_the_order_of_the_file() {
        let page = page().unwrap();
        for text in [
            "\n## iot_sensor_metrics\n\nThe raw readings.",
            "`((location, device_type, bucket), iot_sensor_id, recorded_timestamp)`",
            "| `location` | `text` | partition |  |\n| `device_type` | `text` | partition |  |\n",
            "| `recorded_timestamp` | `timestamp` | clustering, descending |  |",
            "Materialized view of [iot_sensors](#iot_sensors)",
        ] {
            assert!(page.contains(text), "no {text:?} in\n{page}");
        }
    }
}
