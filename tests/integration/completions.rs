//! What a shell is offered: the program answers it, with names that are stored.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::support::{Lab, NOBODY, Program};

crate::trials!(
    stored_names_are_completed,
    a_completion_without_an_answer_from_cassandra_ends_soon_and_quietly,
    a_shell_accepts_its_script,
);

/// The candidates for the last word of a command line, as fish asks for them.
fn candidates(program: &Program, line: &str) -> anyhow::Result<Vec<String>> {
    let output = program.command(&format!("-- iotctl {line}")).env("COMPLETE", "fish").output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    let stdout = String::from_utf8(output.stdout)?;
    Ok(stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect())
}

fn stored_names_are_completed() -> anyhow::Result<()> {
    let lab = Lab::new("complete")?;
    let message = format!(
        r#"{{"location": "hall-7", "device_type": "furnace", "iot_sensor_id": "{}", "recorded_timestamp": "{}",
            "temperature": 850, "other_metrics": {{"slag_level": 3}}}}"#,
        "6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0", "2026-11-01T12:00:00Z"
    );
    lab.send([("6f1d2c3b-4a59-4687-8796-a5b4c3d2e1f0".to_owned(), message.into_bytes())])?;
    lab.ingest()?;
    ensure!(candidates(&lab, "query --location ha")? == ["hall-7"]);
    ensure!(candidates(&lab, "query --device-type ''")? == ["furnace"]);
    ensure!(candidates(&lab, "stats --metric sl")? == ["slag_level"]);
    ensure!(candidates(&lab, "query --columns temperature,sl")? == ["temperature,slag_level"]);
    // The flags typed so far say where to ask.
    let elsewhere = format!("--contact-points {NOBODY} query --location ha");
    ensure!(candidates(&lab, &elsewhere)?.is_empty());
    Ok(())
}

fn a_completion_without_an_answer_from_cassandra_ends_soon_and_quietly() -> anyhow::Result<()> {
    let mut lab = Lab::bare("silent")?;
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.42.98:0")?;
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", &silent.local_addr()?.to_string());
    let started = Instant::now();
    ensure!(candidates(&lab, "query --location ''")?.is_empty());
    ensure!(started.elapsed() < Duration::from_secs(4), "it took {:?}", started.elapsed());
    let metrics = candidates(&lab, "stats --metric ''")?;
    ensure!(metrics.contains(&"temperature".to_owned()) && metrics.len() == 5, "{metrics:?}");
    ensure!(candidates(&lab, "batch run fleet")? == ["fleet_health"]);
    ensure!(candidates(&lab, "-O kafka.to")? == ["kafka.topic="]);
    ensure!(
        candidates(&lab, "dead-letters list --reason not_")?
            == ["not_in_format", "not_json", "not_plain_json"]
    );
    let verbs = candidates(&lab, "''")?;
    ensure!(verbs.contains(&"query".to_owned()) && !verbs.contains(&"reference".to_owned()), "{verbs:?}");
    Ok(())
}

fn a_shell_accepts_its_script() -> anyhow::Result<()> {
    let lab = Lab::bare("script")?;
    let script = lab.ok("completions bash")?;
    let output =
        std::process::Command::new("bash").args(["-c", &format!("{script}\ncomplete -p iotctl")]).output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    Ok(())
}
