//! AWS_MSK_IAM: what reaches a broker, and what is said when it refuses. There is no Amazon MSK here: the broker is one of the tests'
//! own that speaks TLS and enough of Kafka's protocol for a login.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::servers;
use crate::servers::{INGEST, Place};
use crate::support::Lab;

crate::trials!(
    a_token_of_aws_credentials_reaches_the_broker,
    a_login_without_aws_credentials_says_what_is_missing,
);

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const SESSION: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN";

fn lab(place: &Place<'_>, broker: &str) -> anyhow::Result<Lab> {
    let mut lab = place.lab(INGEST)?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", broker);
    lab.set("IOTCTL_KAFKA_SASL_MECHANISM", "AWS_MSK_IAM");
    for setting in ["USERNAME", "PASSWORD_FILE"] {
        lab.set(&format!("IOTCTL_KAFKA_SASL_{setting}"), "");
    }
    // Nothing of this machine is found.
    for file in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
        lab.set(file, "/dev/null");
    }
    lab.set("AWS_EC2_METADATA_DISABLED", "true");
    Ok(lab)
}

fn a_token_of_aws_credentials_reaches_the_broker() -> anyhow::Result<()> {
    let place = servers().place("iam")?;
    let (broker, tokens) = refusing_broker()?;
    let mut lab = lab(&place, &broker)?;
    lab.set("AWS_REGION", "eu-west-1");
    lab.set("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE");
    lab.set("AWS_SECRET_ACCESS_KEY", SECRET);
    lab.set("AWS_SESSION_TOKEN", SESSION);
    let finished = lab.run(&["-vvv", "offsets", "show"])?;
    ensure!(finished.code == Some(1), "{finished:#?}");
    let token = tokens.recv_timeout(Duration::from_secs(1)).context("the broker was not asked")?;
    let url = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(&token)?)?;
    for part in [
        "https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect&",
        "X-Amz-Credential=ASIAIOSFODNN7EXAMPLE%2F",
        "%2Feu-west-1%2Fkafka-cluster%2Faws4_request&",
        "&X-Amz-Expires=900&",
        SESSION,
        "&X-Amz-Signature=",
        "&User-Agent=iotctl%2F",
    ] {
        ensure!(url.contains(part), "{part:?} is not in {url}");
    }
    let words = ["refuses the login by AWS credentials", "Access denied", "kafka-cluster:Connect", "clock"];
    for word in words {
        ensure!(finished.stderr.contains(word), "{word:?} is not in {finished:#?}");
    }
    for secret in [SECRET, SESSION, token.as_str()] {
        ensure!(!finished.stderr.contains(secret), "a secret is shown");
    }
    Ok(())
}

fn a_login_without_aws_credentials_says_what_is_missing() -> anyhow::Result<()> {
    let place = servers().place("no_iam")?;
    let mut lab = lab(&place, "127.0.47.9:1")?;
    let error = lab.fails(1, &["offsets", "show"])?;
    ensure!(error.contains("region") && error.contains("kafka.sasl_aws_region"), "{error}");
    lab.set("IOTCTL_KAFKA_SASL_AWS_REGION", "eu-west-1");
    let error = lab.fails(1, &["offsets", "show"])?;
    ensure!(error.contains("there are no AWS credentials") && error.contains("AWS_ACCESS_KEY_ID"), "{error}");
    lab.set("IOTCTL_KAFKA_SASL_AWS_PROFILE", "plant");
    let error = lab.fails(1, &["offsets", "show"])?;
    ensure!(error.contains("no profile \"plant\""), "{error}");
    Ok(())
}

/// A broker that notes the token of each login and refuses it.
fn refusing_broker() -> anyhow::Result<(String, Receiver<String>)> {
    let pair = &servers().certificates.server;
    let chain = CertificateDer::pem_file_iter(&pair.certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&pair.key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let config = Arc::new(config);
    // The certificate is for this address.
    let listener = TcpListener::bind("127.0.47.1:0")?;
    let address = listener.local_addr()?.to_string();
    let (sender, tokens) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, sender) = (config.clone(), sender.clone());
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config)?;
                serve(&mut StreamOwned::new(connection, stream), &sender)
            });
        }
    });
    Ok((address, tokens))
}

/// Requests and answers are those of Kafka's protocol: ApiVersions, SaslHandshake, SaslAuthenticate.
fn serve(stream: &mut (impl Read + Write), tokens: &Sender<String>) -> anyhow::Result<()> {
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let mut request = vec![0; usize::try_from(i32::from_be_bytes(size))?];
        stream.read_exact(&mut request)?;
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let (key, version) = (number(0), number(2));
        let mut answer = request[4..8].to_vec();
        match key {
            18 => {
                // Versions above 0 are answered as unsupported, with what is supported.
                let error: i16 = if version > 0 { 35 } else { 0 };
                answer.extend(error.to_be_bytes());
                let apis: [[i16; 3]; 4] = [[3, 0, 4], [17, 0, 1], [18, 0, 0], [36, 0, 0]];
                answer.extend(4i32.to_be_bytes());
                apis.iter().flatten().for_each(|number| answer.extend(number.to_be_bytes()));
            }
            17 => {
                answer.extend(0i16.to_be_bytes());
                answer.extend(1i32.to_be_bytes());
                put(&mut answer, "OAUTHBEARER");
            }
            36 => {
                let text = String::from_utf8_lossy(&request);
                let token = text.split_once("auth=Bearer ").and_then(|(_, rest)| rest.split('\u{1}').next());
                tokens.send(token.unwrap_or_default().to_owned())?;
                answer.extend(58i16.to_be_bytes());
                put(&mut answer, "Access denied");
                answer.extend(0i32.to_be_bytes());
            }
            other => anyhow::bail!("request {other}"),
        }
        stream.write_all(&i32::try_from(answer.len())?.to_be_bytes())?;
        stream.write_all(&answer)?;
        stream.flush()?;
    }
}

fn put(answer: &mut Vec<u8>, text: &str) {
    answer.extend(i16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    answer.extend(text.as_bytes());
}
