//! What goes wrong with certificates, passwords and permissions is said in one line, with the remedy, at once.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::certificates::Pair;
use crate::servers::{INGEST, KAFKA_EXPIRED, KAFKA_MUTUAL, Place, READER, SCHEMA, SENDER};
use crate::support::{Lab, NOBODY};
use crate::{servers, support};

crate::trials!(
    cassandra_says_what_it_refuses,
    an_expired_certificate_of_cassandra_is_called_expired,
    kafka_says_what_it_refuses,
    a_refused_client_of_kafka_never_crashes,
    a_client_of_kafka_is_known_by_its_certificate,
    a_role_that_may_only_read_is_refused_to_write,
    a_user_without_permission_on_a_topic_is_told_so,
    a_bad_pem_file_is_a_usage_error,
    metrics_stay_on_loopback,
);

/// A retry loop would last the request timeout, ten seconds.
const AT_ONCE: Duration = Duration::from_secs(6);

/// Settings, and words of the error that they lead to.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

/// Runs a command that must fail at once, with each of `words` in its one line.
fn refused(lab: &Lab, code: i32, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
    let started = Instant::now();
    let error = lab.fails(code, arguments)?;
    for word in words {
        ensure!(error.contains(word), "{word:?} is not in: {error}");
    }
    ensure!(started.elapsed() < AT_ONCE, "it took {:?} to say: {error}", started.elapsed());
    Ok(())
}

/// The lab of `role` with other settings; an empty one is unset.
fn with(place: &Place<'_>, role: &str, settings: &[(&str, &str)]) -> anyhow::Result<Lab> {
    let mut lab = place.lab(role)?;
    for (key, value) in settings {
        lab.set(&format!("IOTCTL_{key}"), value);
    }
    Ok(lab)
}

fn cassandra_says_what_it_refuses() -> anyhow::Result<()> {
    let place = servers().place("refused")?;
    let other_ca = servers().certificates.other_ca.display().to_string();
    let (_, wrong) = servers().new_password("wrong")?;
    let wrong = wrong.display().to_string();
    let no_certificate = [("CASSANDRA_TLS_CERT_FILE", ""), ("CASSANDRA_TLS_KEY_FILE", "")];
    let no_tls = [
        ("CASSANDRA_TLS_ENABLED", "false"),
        ("CASSANDRA_TLS_CA_FILE", ""),
        ("CASSANDRA_TLS_CERT_FILE", ""),
        ("CASSANDRA_TLS_KEY_FILE", ""),
    ];
    let cases: [Case<'_>; 7] = [
        (
            &[("CASSANDRA_TLS_CA_FILE", &other_ca)],
            &["certificate is not signed by an authority in cassandra.tls.ca_file"],
        ),
        (
            &[("CASSANDRA_TLS_SERVER_NAME", "wrong.example")],
            &["is for servers.test, 127.0.47.1 and not for wrong.example", "set cassandra.tls.server_name"],
        ),
        (&no_certificate, &["asks for a certificate of this client", "set cassandra.tls.cert_file"]),
        (&no_tls, &["without TLS", "set cassandra.tls.enabled = true"]),
        (&[("CASSANDRA_PASSWORD_FILE", &wrong)], &["refuses the login", "cassandra.password_file"]),
        (&[("CASSANDRA_USERNAME", "nobody")], &["refuses the login", "nobody", "cassandra.username"]),
        (
            &[("CASSANDRA_USERNAME", ""), ("CASSANDRA_PASSWORD_FILE", "")],
            &["asks for a password and none is configured", "cassandra.username"],
        ),
    ];
    for (settings, words) in cases {
        refused(&with(&place, READER, settings)?, 1, &["-q", "sensors"], words)?;
    }
    // The name is accepted where the certificate has it.
    with(&place, READER, &[("CASSANDRA_TLS_SERVER_NAME", "servers.test")])?.ok(&["-q", "sensors"])?;
    Ok(())
}

fn an_expired_certificate_of_cassandra_is_called_expired() -> anyhow::Result<()> {
    let place = servers().place("expired")?;
    let address = tls_server(&servers().certificates.expired)?.to_string();
    let lab = with(
        &place,
        READER,
        &[("CASSANDRA_CONTACT_POINTS", &address), ("CASSANDRA_TLS_SERVER_NAME", "servers.test")],
    )?;
    refused(&lab, 1, &["-q", "sensors"], &["certificate expired on 2021-01-01", "renew it"])
}

/// A server that presents a certificate and says nothing more: a client that refuses it gets no further.
fn tls_server(pair: &Pair) -> anyhow::Result<SocketAddr> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&pair.certificate)?],
            PrivateKeyDer::from_pem_file(&pair.key)?,
        )?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.47.9:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Ok(mut connection) = rustls::ServerConnection::new(config.clone()) else { return };
            let mut tls = rustls::Stream::new(&mut connection, &mut stream);
            let _ = tls.read(&mut [0; 64]);
        }
    });
    Ok(address)
}

fn kafka_says_what_it_refuses() -> anyhow::Result<()> {
    let place = servers().place("kafka_refused")?;
    let other_ca = servers().certificates.other_ca.display().to_string();
    let (_, wrong) = servers().new_password("wrong_kafka")?;
    let wrong = wrong.display().to_string();
    let no_sasl = [("KAFKA_SASL_USERNAME", ""), ("KAFKA_SASL_PASSWORD_FILE", "")];
    let ssl = [no_sasl[0], no_sasl[1], ("KAFKA_SECURITY_PROTOCOL", "SSL")];
    let plaintext =
        [no_sasl[0], no_sasl[1], ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"), ("KAFKA_SSL_CA_LOCATION", "")];
    let sasl_plaintext = [("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"), ("KAFKA_SSL_CA_LOCATION", "")];
    let wrong_name = tls_server(&servers().certificates.server)?.to_string();
    let cases: [Case<'_>; 11] = [
        (
            &[("KAFKA_SSL_CA_LOCATION", &other_ca)],
            &["certificate is not signed by an authority in kafka.ssl_ca_location"],
        ),
        (
            &[("KAFKA_SSL_CA_LOCATION", "")],
            &["authority that this system trusts", "set kafka.ssl_ca_location"],
        ),
        (
            &[("KAFKA_BOOTSTRAP_SERVERS", KAFKA_EXPIRED)],
            &[KAFKA_EXPIRED, "certificate expired on 2021-01-01", "renew it"],
        ),
        (
            &[("KAFKA_BOOTSTRAP_SERVERS", &wrong_name)],
            &["is for servers.test, 127.0.47.1 and not for 127.0.47.9", "kafka.bootstrap_servers"],
        ),
        (
            &[("KAFKA_SASL_PASSWORD_FILE", &wrong)],
            &["login of user \"iot_sender\"", "check kafka.sasl_username"],
        ),
        (&[("KAFKA_SASL_USERNAME", "nobody")], &["login of user \"nobody\"", "check kafka.sasl_username"]),
        (&[("KAFKA_SASL_MECHANISM", "SCRAM-SHA-256")], &["kafka.sasl_mechanism", "SCRAM-SHA-512"]),
        (&[("KAFKA_SASL_MECHANISM", "PLAIN")], &["kafka.sasl_mechanism", "SCRAM-SHA-512"]),
        (&ssl, &["kafka.security_protocol is SSL", "SASL_SSL"]),
        (&plaintext, &["it speaks TLS there", "kafka.security_protocol is PLAINTEXT"]),
        (&sasl_plaintext, &["it speaks TLS there", "set it to SASL_SSL"]),
    ];
    let simulate = ["-q", "simulate", "--rate", "0", "--count", "10", "--format", "json"];
    for (settings, words) in cases {
        refused(&with(&place, SENDER, settings)?, 1, &simulate, words)?;
    }
    refused(
        &with(&place, INGEST, &[("KAFKA_SASL_PASSWORD_FILE", &wrong)])?,
        1,
        &["-q", "ingest", "--until-end"],
        &["login of user \"iot_ingest\""],
    )
}

/// Where the process ended while Kafka's threads were at their handshakes, OpenSSL was gone under them one time in twenty.
fn a_refused_client_of_kafka_never_crashes() -> anyhow::Result<()> {
    let place = servers().place("refused_often")?;
    let address = tls_server(&servers().certificates.server)?.to_string();
    let lab = with(&place, SENDER, &[("KAFKA_BOOTSTRAP_SERVERS", &address)])?;
    let simulate = ["-q", "simulate", "--rate", "0", "--count", "10", "--format", "json"];
    for _ in 0..15 {
        let quietly = || lab.command(&simulate).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        for run in [(); 6].map(|()| quietly()) {
            let code = run?.wait()?.code();
            ensure!(code == Some(1), "it ended with {code:?}, which is no exit code where a signal ended it");
        }
    }
    Ok(())
}

fn a_client_of_kafka_is_known_by_its_certificate() -> anyhow::Result<()> {
    let place = servers().place("mutual")?;
    let client = &servers().certificates.client;
    let (certificate, key) = (client.certificate.display().to_string(), client.key.display().to_string());
    let mutual = [
        ("KAFKA_BOOTSTRAP_SERVERS", KAFKA_MUTUAL),
        ("KAFKA_SECURITY_PROTOCOL", "SSL"),
        ("KAFKA_SASL_USERNAME", ""),
        ("KAFKA_SASL_PASSWORD_FILE", ""),
    ];
    let simulate = ["-q", "simulate", "--rate", "0", "--count", "10", "--format", "json"];
    refused(
        &with(&place, SENDER, &mutual)?,
        1,
        &simulate,
        &[
            "asks for a certificate of this client",
            "set kafka.ssl_certificate_location and kafka.ssl_key_location",
        ],
    )?;
    let mut lab = with(&place, SENDER, &mutual)?;
    lab.set("IOTCTL_KAFKA_SSL_CERTIFICATE_LOCATION", &certificate);
    lab.set("IOTCTL_KAFKA_SSL_KEY_LOCATION", &key);
    // It is let in, as CN=client, whom nothing is permitted yet.
    refused(&lab, 1, &simulate, &["does not let this user see the topic", "docs/security.md"])?;
    servers().kafka_tool(
        "kafka.admin.AclCommand",
        &["--add", "--allow-principal", "User:CN=client", "--operation", "Write", "--topic", &place.name]
            .map(str::to_owned),
    )?;
    lab.ok(&simulate)?;
    Ok(())
}

fn a_role_that_may_only_read_is_refused_to_write() -> anyhow::Result<()> {
    let place = servers().place("readonly")?;
    place.lab(SENDER)?.ok(&["-q", "simulate", "--rate", "0", "--count", "100", "--format", "json"])?;
    place.lab(READER)?.ok(&["-q", "sensors"])?;

    // Kafka's user may ingest; Cassandra's may only read.
    let reader = servers().password_file("cassandra", READER).display().to_string();
    let lab = with(&place, INGEST, &[("CASSANDRA_USERNAME", READER), ("CASSANDRA_PASSWORD_FILE", &reader)])?;
    let started = Instant::now();
    let finished = lab.run(&["-q", "ingest", "--until-end"])?;
    ensure!(finished.code == Some(1), "{finished:#?}");
    let error = finished.stderr.lines().last().context("no error")?;
    for word in ["denies permission", "iot_reader", "MODIFY", "GRANT", "the topic keeps what is not stored"] {
        ensure!(error.contains(word), "{word:?} is not in: {error}");
    }
    ensure!(started.elapsed() < AT_ONCE, "it took {:?}", started.elapsed());
    // Nothing was lost on the way: the ingest that may write finds all of it.
    ensure!(place.lab(INGEST)?.ingest()?["rows"] == 100);

    let other = with(&place, READER, &[("CASSANDRA_KEYSPACE", "sec_new_one")])?;
    refused(
        &other,
        1,
        &["-q", "schema", "apply", "--skip-kafka", "--replication-factor", "1"],
        &["denies permission", "CREATE", "GRANT"],
    )?;
    let alter = ["-q", "-O", "schema.ttl=10d", "schema", "apply", "--skip-kafka", "--alter-options"];
    refused(&place.lab(READER)?, 1, &alter, &["denies permission", "ALTER", "GRANT"])?;
    // The role of the schema may.
    place.lab(SCHEMA)?.ok(&alter)?;
    Ok(())
}

fn a_user_without_permission_on_a_topic_is_told_so() -> anyhow::Result<()> {
    let place = servers().place("acls")?;
    let simulate = ["-q", "simulate", "--rate", "0", "--count", "10", "--format", "json"];
    let elsewhere = with(&place, READER, &[("KAFKA_TOPIC", "not_for_readers")])?;
    refused(&elsewhere, 1, &simulate, &["does not let this user see the topic", "ACL"])?;
    // It may see the topic, because it may read it, and not write it.
    let words = ["does not let this user write to the topic", "not authorized for the topic", "ACL"];
    refused(&place.lab(INGEST)?, 1, &simulate, &words)?;
    // Nor does a fleet without an end go on for nobody.
    refused(&place.lab(INGEST)?, 1, &["-q", "simulate", "--rate", "100", "--format", "json"], &words)?;
    place.lab(SENDER)?.ok(&simulate)?;
    let group = with(&place, INGEST, &[("KAFKA_GROUP", "somebody_elses")])?;
    refused(
        &group,
        1,
        &["-q", "ingest", "--until-end"],
        &["as the consumer group \"somebody_elses\"", "not authorized for the consumer group", "ACL"],
    )?;
    let topic = with(&place, INGEST, &[("KAFKA_TOPIC", "sec_another")])?;
    refused(
        &topic,
        1,
        &["-q", "schema", "apply", "--skip-cassandra"],
        &["create the topic \"sec_another\"", "not authorized for the topic", "ACL"],
    )
}

fn a_bad_pem_file_is_a_usage_error() -> anyhow::Result<()> {
    let place = servers().place("pem")?;
    let client = &servers().certificates.client;
    let other_key = servers().certificates.server.key.display().to_string();
    let (_, no_pem) = servers().new_password("no_pem")?;
    let (no_pem, certificate) = (no_pem.display().to_string(), client.certificate.display().to_string());
    for (key, file, word) in [
        ("CASSANDRA_TLS_CA_FILE", "/nowhere/ca.pem", "does not exist"),
        ("CASSANDRA_TLS_CA_FILE", &no_pem, "no certificate in PEM"),
        ("CASSANDRA_TLS_KEY_FILE", &certificate, "no unencrypted private key"),
        ("CASSANDRA_TLS_KEY_FILE", &other_key, "it is not the key of"),
    ] {
        let setting =
            if key.ends_with("CA_FILE") { "cassandra.tls.ca_file" } else { "cassandra.tls.key_file" };
        refused(&with(&place, READER, &[(key, file)])?, 2, &["-q", "sensors"], &[setting, file, word])?;
    }
    let simulate = ["-q", "simulate", "--rate", "0", "--count", "10", "--format", "json"];
    for (file, word) in [("/nowhere/ca.pem", "does not exist"), (&no_pem, "no certificate in PEM")] {
        let lab = with(&place, SENDER, &[("KAFKA_SSL_CA_LOCATION", file)])?;
        refused(&lab, 2, &simulate, &["kafka.ssl_ca_location", file, word])?;
    }
    Ok(())
}

fn metrics_stay_on_loopback() -> anyhow::Result<()> {
    let place = servers().place("metrics")?;
    let port = support::free_port()?;
    let mut ingest = place.lab(INGEST)?.spawn(&["-q", "ingest", "--metrics-addr", &port.to_string()])?;
    support::eventually("the metrics are served on 127.0.0.1", Duration::from_secs(20), || {
        Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
    })?;
    // Whoever binds to all addresses answers at each of them.
    ensure!(
        std::net::TcpStream::connect(("127.0.47.1", port)).is_err(),
        "the metrics are not on loopback alone"
    );
    ensure!(ingest.terminate()? == Some(0));
    let mut lab = place.lab(INGEST)?;
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", NOBODY);
    refused(&lab, 2, &["-q", "ingest", "--metrics-addr", "everywhere"], &["9464"]).or_else(|_| {
        // clap's own usage errors have more than one line.
        let finished = lab.run(&["-q", "ingest", "--metrics-addr", "everywhere"])?;
        ensure!(finished.code == Some(2) && finished.stderr.contains("9464"), "{finished:#?}");
        Ok(())
    })
}
