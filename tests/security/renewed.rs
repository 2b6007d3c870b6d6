//! Passwords and certificates that are changed under a running command: it takes up what their files hold, and goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use iotctl::kafka::{Producer, topics};
use serde_json::json;
use uuid::Uuid;

use crate::certificates::Pair;
use crate::servers;
use crate::servers::{ADMIN, CASSANDRA, INGEST, KAFKA_MUTUAL, KAFKA_STRICT, Place};
use crate::support::{self, Lab};
use crate::withdrawn::{Ingest, OwnUser, Proxy, send};

crate::trials!(
    a_changed_password_of_kafka_is_taken_up_by_a_running_ingest,
    a_changed_password_of_cassandra_is_taken_up_by_a_running_ingest,
    a_renewed_certificate_of_kafka_is_taken_up_by_a_running_ingest,
    a_renewed_certificate_of_cassandra_is_taken_up_by_a_running_ingest,
    a_renewed_certificate_of_kafka_is_taken_up_by_a_running_delivery_of_alerts,
);

/// Files are looked at every two seconds, and must have settled.
const NOTICED: Duration = Duration::from_secs(30);
/// The strict listener of Kafka asks for a new login within this time.
const LOGIN_AGAIN: Duration = Duration::from_secs(10);

/// A running ingest and its metrics.
struct Running<'a> {
    place: &'a Place<'a>,
    ingest: Ingest,
    port: u16,
}

impl<'a> Running<'a> {
    /// Starts one that has stored `rows`.
    fn start(lab: &Lab, place: &'a Place<'a>, rows: i64) -> anyhow::Result<Self> {
        Self::start_as(lab, place, &["ingest"], rows)
    }

    /// By these words of a command line.
    fn start_as(lab: &Lab, place: &'a Place<'a>, words: &[&str], rows: i64) -> anyhow::Result<Self> {
        let port = support::free_port()?;
        let mut command: Command = lab.command(&[words, &["--metrics-addr", &port.to_string()]].concat());
        command.env("IOTCTL_LOG", "iotctl=info");
        Ok(Self { place, ingest: Ingest::start_as(command, place, rows)?, port })
    }

    fn metric(&self, name: &str, server: &str) -> anyhow::Result<u32> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let start = format!("iotctl_credentials_{name}{{server=\"{server}\"}} ");
        let value = answer.lines().find_map(|line| line.strip_prefix(&start));
        Ok(value.with_context(|| format!("{start} is not in {answer}"))?.parse()?)
    }

    fn wait_for(&self, name: &str, server: &str, value: u32) -> anyhow::Result<()> {
        let what = format!("{name} of {server} is {value}");
        let found = support::eventually(&what, NOTICED, || Ok(self.metric(name, server)? == value));
        found.with_context(|| self.ingest.said().unwrap_or_default())
    }

    /// Sends readings and waits until all that were sent so far are stored.
    fn goes_on(&self, further: u32, sent: &mut i64) -> anyhow::Result<()> {
        send(self.place, further)?;
        *sent += i64::from(further);
        let stored = support::eventually("all is stored", Duration::from_secs(40), || {
            Ok(self.place.stored()? == *sent)
        });
        stored.with_context(|| self.ingest.said().unwrap_or_default())
    }

    /// Ends it, and counts.
    fn ends_without_loss(self, sent: i64, secrets: &[&str]) -> anyhow::Result<()> {
        let Self { place, ingest, .. } = self;
        let finished = ingest.stop()?;
        ensure!(finished.code == Some(0), "{finished:#?}");
        for secret in secrets {
            ensure!(!finished.stderr.contains(secret), "a password is shown");
        }
        ensure!(place.stored()? == sent, "{} of {sent} rows are stored", place.stored()?);
        let mut kafka = servers().kafka_config(ADMIN);
        kafka.topic.clone_from(&place.name);
        kafka.group.clone_from(&place.name);
        let ends = servers().block_on(topics::end_offsets(&kafka, &place.name))?;
        let partitions = i32::try_from(ends.len())?;
        let committed =
            servers().block_on(iotctl::kafka::consumer_groups::committed(&kafka, &place.name, partitions))?;
        let committed: i64 = committed.iter().flatten().sum();
        ensure!(
            ends.iter().sum::<i64>() == sent && committed == sent,
            "{committed} of {ends:?} are committed"
        );
        let dead = servers().block_on(topics::end_offsets(&kafka, &place.dead_letter_topic()))?;
        ensure!(dead.iter().sum::<i64>() == 0, "there are dead letters: {dead:?}");
        Ok(())
    }
}

fn a_changed_password_of_kafka_is_taken_up_by_a_running_ingest() -> anyhow::Result<()> {
    let place = servers().place("kafka_renewed")?;
    let (first, file) = servers().new_password("kafka_renewed")?;
    let user = OwnUser::make(&place, &first)?;
    let mut lab = user.lab(&file)?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", KAFKA_STRICT);
    let mut sent = 500;
    send(&place, 500)?;
    let running = Running::start(&lab, &place, sent)?;

    // The servers first, the file after it.
    let (second, _) = servers().new_password("kafka_renewed_second")?;
    user.set_password(&second)?;
    std::fs::write(&file, &second)?;
    running.wait_for("renewals_total", "kafka", 1)?;
    std::thread::sleep(LOGIN_AGAIN);
    running.goes_on(700, &mut sent)?;

    // The file first, the servers after it: nothing is refused meanwhile.
    let (third, _) = servers().new_password("kafka_renewed_third")?;
    std::fs::write(&file, &third)?;
    running.wait_for("refused", "kafka", 1)?;
    std::thread::sleep(LOGIN_AGAIN);
    running.goes_on(300, &mut sent)?;
    let said = running.ingest.said()?;
    ensure!(said.contains("is refused, the old one stays in use"), "{said}");
    ensure!(said.contains(&format!("refuses the login of user {:?}", user.name())), "{said}");
    user.set_password(&third)?;
    running.wait_for("renewals_total", "kafka", 2)?;
    running.wait_for("refused", "kafka", 0)?;
    std::thread::sleep(LOGIN_AGAIN);
    running.goes_on(400, &mut sent)?;
    running.ends_without_loss(sent, &[&first, &second, &third])
}

fn a_changed_password_of_cassandra_is_taken_up_by_a_running_ingest() -> anyhow::Result<()> {
    let place = servers().place("cassandra_renewed")?;
    let (first, file) = servers().new_password("cassandra_renewed")?;
    let role = format!("role_of_{}", place.name);
    servers().cql(&[
        format!("CREATE ROLE {role} WITH LOGIN = true AND PASSWORD = '{first}'"),
        format!("GRANT {INGEST} TO {role}"),
    ])?;
    let proxy = Proxy::start(CASSANDRA.parse()?)?;
    let mut lab = place.lab(INGEST)?;
    lab.set("IOTCTL_CASSANDRA_USERNAME", &role);
    lab.set("IOTCTL_CASSANDRA_PASSWORD_FILE", &file.display().to_string());
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", &proxy.address.to_string());
    lab.set("IOTCTL_CASSANDRA_TLS_SERVER_NAME", "servers.test");
    let mut sent = 500;
    send(&place, 500)?;
    let running = Running::start(&lab, &place, sent)?;

    let (second, _) = servers().new_password("cassandra_renewed_second")?;
    servers().cql(&[format!("ALTER ROLE {role} WITH PASSWORD = '{second}'")])?;
    std::fs::write(&file, &second)?;
    running.wait_for("renewals_total", "cassandra", 1)?;
    // Cassandra checks passwords of new connections alone.
    proxy.cut();
    running.goes_on(700, &mut sent)?;

    // A wrong one is reported, and new connections are still opened by the one before.
    let (wrong, _) = servers().new_password("cassandra_renewed_wrong")?;
    std::fs::write(&file, &wrong)?;
    running.wait_for("refused", "cassandra", 1)?;
    proxy.cut();
    running.goes_on(300, &mut sent)?;
    let said = running.ingest.said()?;
    ensure!(
        said.contains("is refused, the old one stays in use") && said.contains("refuses the login"),
        "{said}"
    );
    servers().cql(&[format!("ALTER ROLE {role} WITH PASSWORD = '{wrong}'")])?;
    running.wait_for("renewals_total", "cassandra", 2)?;
    running.wait_for("refused", "cassandra", 0)?;
    proxy.cut();
    running.goes_on(400, &mut sent)?;
    running.ends_without_loss(sent, &[&first, &second, &wrong])
}

/// A certificate and its key as a command finds them, in files that are written anew.
struct Shown {
    folder: tempfile::TempDir,
}

impl Shown {
    fn new(pair: &Pair) -> anyhow::Result<Self> {
        let shown = Self { folder: tempfile::tempdir()? };
        shown.renew(pair)?;
        Ok(shown)
    }

    fn renew(&self, pair: &Pair) -> anyhow::Result<()> {
        for (from, to) in [(&pair.certificate, self.path("cert.pem")), (&pair.key, self.path("key.pem"))] {
            std::fs::copy(from, to)?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&self, lab: &mut Lab, certificate: &str, key: &str) {
        lab.set(certificate, &self.path("cert.pem").display().to_string());
        lab.set(key, &self.path("key.pem").display().to_string());
    }
}

/// Commands that log in to Kafka by a certificate alone.
fn mutual(place: &Place<'_>, shown: &Shown) -> anyhow::Result<Lab> {
    let mut lab = place.lab(INGEST)?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", KAFKA_MUTUAL);
    lab.set("IOTCTL_KAFKA_SECURITY_PROTOCOL", "SSL");
    for setting in ["USERNAME", "PASSWORD_FILE"] {
        lab.set(&format!("IOTCTL_KAFKA_SASL_{setting}"), "");
    }
    shown.set(&mut lab, "IOTCTL_KAFKA_SSL_CERTIFICATE_LOCATION", "IOTCTL_KAFKA_SSL_KEY_LOCATION");
    Ok(lab)
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn a_renewed_certificate_of_kafka_is_taken_up_by_a_running_ingest() -> anyhow::Result<()> {
    let place = servers().place("kafka_cert")?;
    let certificates = &servers().certificates;
    // Kafka knows clients of this listener by their certificates alone: the two may be told apart.
    let (first, second) = (format!("first_{}", place.name), format!("second_{}", place.name));
    let users = [&first, &second].map(|name| OwnUser::by_certificate(&place, name));
    for user in &users {
        user.permissions(&["--add"])?;
    }
    let shown = Shown::new(&certificates.client_for(&first, DAY)?)?;
    let lab = mutual(&place, &shown)?;
    let mut sent = 500;
    send(&place, 500)?;
    let running = Running::start(&lab, &place, sent)?;

    // Files that cannot be used change nothing.
    std::fs::write(shown.path("key.pem"), "no key")?;
    running.wait_for("refused", "kafka", 1)?;
    running.goes_on(200, &mut sent)?;
    // While readings come.
    let sender = std::thread::scope(|scope| {
        let sending = scope.spawn(|| -> anyhow::Result<()> { (0..10).try_for_each(|_| send(&place, 100)) });
        shown.renew(&certificates.client_for(&second, DAY)?)?;
        running.wait_for("renewals_total", "kafka", 1)?;
        sending.join().map_err(|_| anyhow::anyhow!("the sender broke off"))?
    });
    sender.with_context(|| running.ingest.said().unwrap_or_default())?;
    sent += 1000;
    running.wait_for("refused", "kafka", 0)?;
    running.goes_on(100, &mut sent)?;
    ensure!(
        running.ingest.said()?.contains("the clients of Kafka are made anew"),
        "{}",
        running.ingest.said()?
    );
    users[0].permissions(&["--remove", "--force"])?;
    running.goes_on(300, &mut sent)?;
    running.ends_without_loss(sent, &[])
}

fn a_renewed_certificate_of_cassandra_is_taken_up_by_a_running_ingest() -> anyhow::Result<()> {
    const LIFETIME: Duration = Duration::from_secs(45);
    let place = servers().place("cassandra_cert")?;
    let certificates = &servers().certificates;
    let name = format!("client_of_{}", place.name);
    let begun = Instant::now();
    let shown = Shown::new(&certificates.client_for(&name, LIFETIME)?)?;
    std::fs::copy(&certificates.ca, shown.path("ca.pem"))?;
    let proxy = Proxy::start(CASSANDRA.parse()?)?;
    let mut lab = place.lab(INGEST)?;
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", &proxy.address.to_string());
    lab.set("IOTCTL_CASSANDRA_TLS_SERVER_NAME", "servers.test");
    lab.set("IOTCTL_CASSANDRA_TLS_CA_FILE", &shown.path("ca.pem").display().to_string());
    shown.set(&mut lab, "IOTCTL_CASSANDRA_TLS_CERT_FILE", "IOTCTL_CASSANDRA_TLS_KEY_FILE");
    let mut sent = 500;
    send(&place, 500)?;
    let running = Running::start(&lab, &place, sent)?;

    shown.renew(&certificates.client_for(&name, DAY)?)?;
    running.wait_for("renewals_total", "cassandra", 1)?;
    std::thread::sleep((LIFETIME + Duration::from_secs(2)).saturating_sub(begun.elapsed()));
    // New connections show the new certificate: the old one has expired.
    proxy.cut();
    running.goes_on(700, &mut sent)?;
    // An authority that did not sign the servers' certificates.
    std::fs::copy(&certificates.other_ca, shown.path("ca.pem"))?;
    running.wait_for("refused", "cassandra", 1)?;
    proxy.cut();
    running.goes_on(300, &mut sent)?;
    std::fs::copy(&certificates.ca, shown.path("ca.pem"))?;
    running.wait_for("refused", "cassandra", 0)?;
    running.ends_without_loss(sent, &[])
}

/// Sends an alert that fires, of each of these sensors.
fn fire(topic: &str, sensors: std::ops::Range<u128>) -> anyhow::Result<()> {
    let producer = Producer::new(&servers().kafka_config(ADMIN), topic, |_| ())?;
    for sensor in sensors {
        let (id, now) = (Uuid::from_u128(sensor).to_string(), chrono::Utc::now().to_rfc3339());
        let alert = json!({
            "id": id, "rule": "hot", "severity": "warning", "state": "firing", "location": "plant-3",
            "device_type": "thermostat", "iot_sensor_id": id, "metric": "temperature", "value": 31.0,
            "expected": 28.0, "recorded_timestamp": now, "since": now, "detected_timestamp": now, "message": "hot",
        });
        producer.offer(id.as_bytes(), alert.to_string().as_bytes(), 0)?;
    }
    ensure!(producer.flush(Duration::from_secs(30)), "not everything was sent in 30 s");
    Ok(())
}

fn a_renewed_certificate_of_kafka_is_taken_up_by_a_running_delivery_of_alerts() -> anyhow::Result<()> {
    let place = servers().place("deliver_cert")?;
    let certificates = &servers().certificates;
    let (first, second) = (format!("first_{}", place.name), format!("second_{}", place.name));
    let users = [&first, &second].map(|name| OwnUser::by_certificate(&place, name));
    let shown = Shown::new(&certificates.client_for(&first, DAY)?)?;
    let lab = mutual(&place, &shown)?;
    let alerts = lab.setting("IOTCTL_KAFKA_ALERTS_TOPIC").to_owned();
    let (group, refused) = (format!("{}-alerts", place.name), format!("{alerts}.dlq"));
    let rights =
        [(["--topic", &alerts], "Read"), (["--group", &group], "Read"), (["--topic", &refused], "Write")];
    let permissions = |user: &OwnUser<'_>, change: &[&str]| {
        rights.into_iter().try_for_each(|(resource, operation)| user.acl(change, resource, operation))
    };
    users.iter().try_for_each(|user| permissions(user, &["--add"]))?;
    let told = shown.path("told");
    let receivers = shown.path("receivers.toml");
    let program = format!("cat >> {0}; echo >> {0}", told.display());
    std::fs::write(
        &receivers,
        format!(
            "[[receiver]]\nname = \"file\"\ngroup_wait = \"100ms\"\ncommand = {{ run = [\"sh\", \"-c\", \"{program}\"] }}\n"
        ),
    )?;
    let ids = || -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::new();
        for line in std::fs::read_to_string(&told).unwrap_or_default().lines().filter(|line| !line.is_empty())
        {
            // The last line may not be whole yet.
            let Ok(sent) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let alerts = sent["alerts"].as_array().context("alerts")?;
            ids.extend(alerts.iter().map(|alert| alert["id"].to_string()));
        }
        Ok(ids)
    };
    let running =
        Running::start_as(&lab, &place, &["alerts", "deliver", &receivers.display().to_string()], 0)?;
    let arrive = |count: usize| {
        let found = support::eventually(&format!("{count} alerts"), Duration::from_secs(60), || {
            Ok(ids()?.len() >= count)
        });
        found.with_context(|| running.ingest.said().unwrap_or_default())
    };
    fire(&alerts, 0..20)?;
    arrive(20)?;

    shown.renew(&certificates.client_for(&second, DAY)?)?;
    running.wait_for("renewals_total", "kafka", 1)?;
    permissions(&users[0], &["--remove", "--force"])?;
    fire(&alerts, 20..40)?;
    arrive(40)?;
    let finished = running.ingest.stop()?;
    ensure!(finished.code == Some(0), "{finished:#?}");
    ensure!(finished.stderr.contains("the clients of Kafka are made anew"), "{finished:#?}");
    let mut told = ids()?;
    told.sort_unstable();
    told.dedup();
    ensure!(told.len() == 40 && ids()?.len() == 40, "{told:?}");
    Ok(())
}
