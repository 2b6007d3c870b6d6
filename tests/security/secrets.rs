//! Passwords are where they were put, and nowhere else: each is random and of this run alone, so a scan cannot pass
//! because nobody would write such a word.

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::servers;
use crate::servers::{INGEST, READER, SCHEMA, SENDER};
use crate::support::{self, Lab};

crate::trials!(
    no_output_log_or_error_shows_a_password,
    no_process_or_metric_shows_a_password,
    a_password_on_the_command_line_is_refused,
    config_show_redacts_passwords_from_every_source,
);

/// Fails where one of the run's passwords is in `text`.
fn scan(what: &str, text: &str, further: &[String]) -> anyhow::Result<()> {
    for password in servers().passwords().iter().chain(further) {
        ensure!(password.len() > 20, "that is no password to scan for: {password:?}");
        ensure!(!text.contains(password.as_str()), "{what} shows a password");
    }
    Ok(())
}

/// Runs a command with the most talkative logs and scans all it says.
fn run_and_scan(lab: &Lab, arguments: &[&str], further: &[String]) -> anyhow::Result<String> {
    let mut command = lab.command(arguments);
    command.env("IOTCTL_LOG", "trace");
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    scan(&arguments.join(" "), &said, further)?;
    Ok(said)
}

fn no_output_log_or_error_shows_a_password() -> anyhow::Result<()> {
    let place = servers().place("scan")?;
    let simulate = ["simulate", "--rate", "0", "--count", "50", "--format", "json"];
    run_and_scan(&place.lab(SCHEMA)?, &["-vvv", "schema", "check"], &[])?;
    let said = run_and_scan(&place.lab(SENDER)?, &[&["-vvv"], &simulate[..]].concat(), &[])?;
    ensure!(said.contains("TRACE") && said.contains("librdkafka client"), "the Kafka client logs nothing");
    run_and_scan(&place.lab(INGEST)?, &["-vvv", "ingest", "--until-end"], &[])?;
    let said = run_and_scan(&place.lab(READER)?, &["-vvv", "sensors"], &[])?;
    ensure!(said.contains("node health changed"), "the session logs nothing");
    run_and_scan(
        &place.lab(READER)?,
        &["-vvv", "query", "--location", "plant-1", "--device-type", "thermostat", "--last", "1h"],
        &[],
    )?;
    // The messages wait for an ingest or not, as it happens: what it says counts, and not its exit code.
    for command in ["status", "doctor"] {
        let said = place.lab(READER)?.run(&["-vvv", command])?;
        ensure!(said.stderr.contains("node health changed"), "{said:#?}");
        scan(command, &format!("{}{}", said.stdout, said.stderr), &[])?;
    }

    // A login that is refused, from files and from variables.
    let (wrong, file) = servers().new_password("refused")?;
    let mut lab = place.lab(SENDER)?;
    lab.set("IOTCTL_KAFKA_SASL_PASSWORD_FILE", &file.display().to_string());
    run_and_scan(&lab, &[&["-vvv"], &simulate[..]].concat(), std::slice::from_ref(&wrong))?;
    let mut lab = place.lab(READER)?;
    lab.set("IOTCTL_CASSANDRA_PASSWORD_FILE", "");
    lab.set("IOTCTL_CASSANDRA_PASSWORD", &wrong);
    run_and_scan(&lab, &["-vvv", "sensors"], &[wrong])?;
    Ok(())
}

fn no_process_or_metric_shows_a_password() -> anyhow::Result<()> {
    let place = servers().place("process")?;
    place.lab(SENDER)?.ok(&["-q", "simulate", "--rate", "0", "--count", "50", "--format", "json"])?;
    let port = support::free_port()?;
    let lab = place.lab(INGEST)?;
    let mut ingest = lab
        .command(&["-q", "ingest", "--metrics-addr", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let id = ingest.id();
    let looks = || -> anyhow::Result<()> {
        let mut metrics = String::new();
        support::eventually("50 rows in the metrics", Duration::from_secs(30), || {
            metrics = get(port, "/metrics").unwrap_or_default();
            Ok(metrics.lines().any(|line| line.contains("rows") && line.ends_with(" 50")))
        })?;
        scan("/metrics", &metrics, &[])?;
        for path in ["/healthz", "/readyz", "/", "/config"] {
            scan(path, &get(port, path)?, &[])?;
        }
        // Passwords that come from files are in none of what others may see of a process.
        for file in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{id}/{file}"))?;
            ensure!(!text.is_empty(), "/proc/{id}/{file} is empty");
            scan(file, &String::from_utf8_lossy(&text), &[])?;
        }
        Ok(())
    };
    let looked = looks();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(id)?),
        nix::sys::signal::Signal::SIGTERM,
    )?;
    ensure!(ingest.wait()?.success(), "ingest did not end well");
    looked
}

fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn a_password_on_the_command_line_is_refused() -> anyhow::Result<()> {
    let place = servers().place("flags")?;
    let (password, _) = servers().new_password("flag")?;
    for (key, variable) in [
        ("cassandra.password", "IOTCTL_CASSANDRA_PASSWORD"),
        ("kafka.sasl_password", "IOTCTL_KAFKA_SASL_PASSWORD"),
        ("kafka.ssl_key_password", "IOTCTL_KAFKA_SSL_KEY_PASSWORD"),
        ("kafka.properties.ssl.keystore.password", "IOTCTL_KAFKA_PROPERTIES"),
        ("kafka.properties.sasl.jaas.config", "IOTCTL_KAFKA_PROPERTIES"),
    ] {
        let setting = format!("{key}={password}");
        let error = place.lab(READER)?.fails(2, &["-q", "-O", &setting, "sensors"])?;
        ensure!(error.contains("command lines are visible to every user of the machine"), "{error}");
        ensure!(error.contains(variable), "{error}");
        scan("the refusal", &error, std::slice::from_ref(&password))?;
    }
    Ok(())
}

fn config_show_redacts_passwords_from_every_source() -> anyhow::Result<()> {
    let place = servers().place("show")?;
    for format in ["table", "json"] {
        let shown = place.lab(READER)?.ok(&["config", "show", "--format", format])?;
        ensure!(shown.contains("<redacted>") && shown.contains("iot_reader"), "{shown}");
        scan("config show", &shown, &[])?;
    }
    let (password, _) = servers().new_password("show")?;
    let mut lab = place.lab(READER)?;
    for system in ["CASSANDRA_PASSWORD", "KAFKA_SASL_PASSWORD"] {
        lab.set(&format!("IOTCTL_{system}_FILE"), "");
        lab.set(&format!("IOTCTL_{system}"), &password);
    }
    lab.set("IOTCTL_KAFKA_PROPERTIES", &format!("ssl.keystore.password={password}"));
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), format!("[kafka]\nssl_key_password = \"{password}\"\n"))?;
    let path = file.path().to_str().context("a path in UTF-8")?;
    let finished = lab.run(&["--config", path, "config", "show"])?;
    scan("config show", &format!("{}{}", finished.stdout, finished.stderr), &[password])
}
