//! Names that would be more than names if they were pasted into CQL.

use anyhow::ensure;

use crate::servers;
use crate::servers::{INGEST, READER};
use crate::support::{Lab, NOBODY};

crate::trials!(
    a_hostile_keyspace_is_refused_before_anybody_is_asked,
    a_hostile_topic_is_refused_before_anybody_is_asked,
    a_hostile_role_name_is_only_a_name,
    hostile_texts_in_questions_are_only_texts,
);

const HOSTILE: [&str; 9] = [
    "x; DROP KEYSPACE system_auth",
    "x.y",
    "\"x\"",
    "x' OR 'a'='a",
    "x--",
    "x/*",
    "Upper",
    "select",
    "system_auth",
];

fn a_hostile_keyspace_is_refused_before_anybody_is_asked() -> anyhow::Result<()> {
    let mut lab = Lab::bare("hostile")?;
    // Whoever got as far as asking would say that nobody answers, and exit with 1.
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", NOBODY);
    for name in HOSTILE {
        for command in
            [&["schema", "apply"][..], &["schema", "show"], &["sensors"], &["ingest", "--until-end"]]
        {
            let error = lab.fails(2, &[&["-q", "--keyspace", name], command].concat())?;
            ensure!(error.contains("cassandra.keyspace") && error.contains("flag --keyspace"), "{error}");
        }
    }
    // The library's own door is as narrow.
    for name in HOSTILE {
        let mut config = iotctl::config::Config::default().cassandra;
        config.contact_points = vec![NOBODY.into()];
        config.keyspace = name.into();
        let error = lab.block_on(iotctl::cassandra::Session::connect(&config)).err();
        ensure!(matches!(error, Some(iotctl::cassandra::Error::Setting(_))), "{name:?}: {error:?}");
    }
    Ok(())
}

fn a_hostile_topic_is_refused_before_anybody_is_asked() -> anyhow::Result<()> {
    let mut lab = Lab::bare("hostile")?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", NOBODY);
    for name in ["x; y", "a b", "../x", "..", "a/b", "x\"y"] {
        let error = lab.fails(2, &["-q", "--topic", name, "simulate", "--count", "1"])?;
        ensure!(error.contains("kafka.topic"), "{error}");
    }
    Ok(())
}

fn a_hostile_role_name_is_only_a_name() -> anyhow::Result<()> {
    let place = servers().place("rolename")?;
    // Without an apostrophe: Cassandra 5.0.6 itself pastes role names into CQL and stumbles over one.
    let name = "oneil\"; DROP ROLE iot_reader; --";
    let (password, file) = servers().new_password("hostile_role")?;
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    servers().cql(&[
        format!("CREATE ROLE {quoted} WITH LOGIN = true AND PASSWORD = '{password}'"),
        format!("GRANT SELECT ON KEYSPACE {} TO {quoted}", place.name),
    ])?;
    let mut lab = place.lab(READER)?;
    lab.set("IOTCTL_CASSANDRA_USERNAME", name);
    lab.set("IOTCTL_CASSANDRA_PASSWORD_FILE", &file.display().to_string());
    lab.ok(&["-q", "sensors"])?;
    // Refused, it is repeated as it is, in one line; the other roles are still there.
    lab.set("IOTCTL_CASSANDRA_USERNAME", "o'neil\n; DROP ROLE iot_reader");
    let error = lab.fails(1, &["-q", "sensors"])?;
    ensure!(error.contains("refuses the login"), "{error}");
    place.lab(READER)?.ok(&["-q", "sensors"])?;
    Ok(())
}

fn hostile_texts_in_questions_are_only_texts() -> anyhow::Result<()> {
    let place = servers().place("texts")?;
    // As one who may do what the texts ask for.
    let lab = place.lab(INGEST)?;
    let truncate = format!("x'; TRUNCATE {}.iot_sensors; --", place.name);
    servers().cql(&[format!(
        "INSERT INTO {}.iot_sensors (location, device_type, iot_sensor_id) VALUES ('a', 'b', {})",
        place.name,
        uuid::Uuid::from_u128(7)
    )])?;
    lab.run(&["-q", "query", "--location", &truncate, "--device-type", &truncate, "--last", "1h"])?;
    lab.run(&[
        "-q",
        "extremes",
        "--metric",
        &truncate,
        "--location",
        "a",
        "--device-type",
        "b",
        "--last",
        "1h",
    ])?;
    lab.run(&["-q", "sensors", "--location", &truncate])?;
    let sensors = lab.ok(&["-q", "sensors", "--format", "ndjson"])?;
    ensure!(sensors.contains(&uuid::Uuid::from_u128(7).to_string()) || sensors.is_empty(), "{sensors}");
    let kept = servers().count(&format!("SELECT count(*) FROM {}.iot_sensors", place.name))?;
    ensure!(kept == 1, "{kept} sensors are left");
    Ok(())
}
