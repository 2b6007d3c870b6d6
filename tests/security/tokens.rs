//! OAUTHBEARER: an OpenID Connect token endpoint of the tests' own, whose tokens a real broker checks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use crate::servers;
use crate::servers::{INGEST, KAFKA_TOKENS, Place, SENDER};
use crate::support::{self, Lab};

crate::trials!(a_login_by_tokens_outlives_its_tokens, what_is_wrong_with_a_token_is_said,);

/// What the broker expects in a token.
pub const AUDIENCE: &str = "kafka";
/// Seconds for which a token is valid. The broker asks for a new login before that.
const LIFETIME: u64 = 8;

/// What signs the tokens.
pub struct Signer {
    key: EcdsaKeyPair,
    /// The public key, as a JWKS file.
    pub jwks: PathBuf,
}

impl Signer {
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .map_err(|_| anyhow::anyhow!("no key"))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random)
            .map_err(|problem| anyhow::anyhow!("the key: {problem}"))?;
        // An uncompressed point: 4, x, y.
        let point = key.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "test",
            "x": part(&point[1..33]), "y": part(&point[33..65]),
        }]});
        let path = folder.join("jwks.json");
        std::fs::write(&path, jwks.to_string())?;
        Ok(Self { key, jwks: path })
    }

    fn token(&self, subject: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let claims = json!({"sub": subject, "aud": AUDIENCE, "iat": now, "exp": now + LIFETIME});
        let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed =
            format!("{}.{}", part(json!({"alg": "ES256", "kid": "test", "typ": "JWT"})), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A token endpoint that knows the clients of these servers by their Kafka passwords.
struct Endpoint {
    url: String,
    asked: Arc<AtomicU32>,
}

impl Endpoint {
    fn start(signer: &'static Signer) -> anyhow::Result<Self> {
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let answer = move |headers: HeaderMap, body: String| {
            count.fetch_add(1, Ordering::Relaxed);
            let client = client(&headers).filter(|_| body.contains("grant_type=client_credentials"));
            let (status, answer) = match client {
                None => (StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"})),
                Some(client) => {
                    let token = signer.token(&client);
                    let answer =
                        json!({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME});
                    (StatusCode::OK, answer)
                }
            };
            std::future::ready((status, [(header::CONTENT_TYPE, "application/json")], answer.to_string()))
        };
        let listener = std::net::TcpListener::bind("127.0.47.9:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}/token", listener.local_addr()?);
        servers().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let _ = axum::serve(listener, axum::Router::new().route("/token", post(answer))).await;
        });
        Ok(Self { url, asked })
    }
}

/// The client that basic authentication names, if its secret is right.
fn client(headers: &HeaderMap) -> Option<String> {
    let login = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let login = String::from_utf8(BASE64_STANDARD.decode(login).ok()?).ok()?;
    let (client, secret) = login.split_once(':')?;
    let known = [SENDER, INGEST].contains(&client) && secret == servers().password("kafka", client);
    known.then(|| client.to_owned())
}

/// The lab of `role`, which logs in by tokens.
fn lab(place: &Place<'_>, role: &str, endpoint: &str) -> anyhow::Result<Lab> {
    let mut lab = place.lab(role)?;
    lab.set("IOTCTL_KAFKA_BOOTSTRAP_SERVERS", KAFKA_TOKENS);
    lab.set("IOTCTL_KAFKA_SASL_MECHANISM", "OAUTHBEARER");
    lab.set("IOTCTL_KAFKA_SASL_TOKEN_ENDPOINT", endpoint);
    Ok(lab)
}

fn a_login_by_tokens_outlives_its_tokens() -> anyhow::Result<()> {
    let place = servers().place("tokens")?;
    let endpoint = Endpoint::start(&servers().signer)?;
    let (sender, ingest) = (lab(&place, SENDER, &endpoint.url)?, lab(&place, INGEST, &endpoint.url)?);
    let mut running = ingest.spawn(&["-q", "ingest"])?;
    let sent = sender.json(&["-q", "simulate", "--rate", "200", "--duration", "20s", "--format", "json"])?;
    let acknowledged = sent["acknowledged"].as_i64().context("a count")?;
    ensure!(acknowledged >= 3900, "{sent:#}");
    // Both clients lived longer than two tokens.
    ensure!(endpoint.asked.load(Ordering::Relaxed) >= 5, "{:?} tokens", endpoint.asked);
    support::eventually("all is stored", Duration::from_secs(60), || Ok(place.stored()? == acknowledged))?;
    ensure!(running.terminate()? == Some(0), "ingest did not end well");
    // A command whose client fetches no messages.
    let shown = ingest.json(&["-q", "offsets", "show", "--format", "json"])?;
    let partitions = shown.as_array().context("a list")?;
    ensure!(partitions.len() == 2 && partitions.iter().all(|one| one["lag"] == 0), "{shown:#}");
    Ok(())
}

fn what_is_wrong_with_a_token_is_said() -> anyhow::Result<()> {
    let place = servers().place("no_tokens")?;
    let endpoint = Endpoint::start(&servers().signer)?;
    let simulate = &["-q", "simulate", "--count", "10"];
    let (_, wrong) = servers().new_password("wrong_secret")?;
    let mut refused = lab(&place, SENDER, &endpoint.url)?;
    refused.set("IOTCTL_KAFKA_SASL_PASSWORD_FILE", &wrong.display().to_string());
    let away = lab(&place, SENDER, "http://127.0.47.9:1/token")?;
    let folder = tempfile::tempdir()?;
    let unknown = Box::leak(Box::new(Signer::make(folder.path())?));
    let other = lab(&place, SENDER, &Endpoint::start(unknown)?.url)?;
    for (lab, words) in [
        (refused, ["there is no token from", "{\"error\":\"invalid_client\"}"]),
        (away, ["there is no token from", "check kafka.sasl_token_endpoint"]),
        (other, ["refuses the login of user \"iot_sender\"", "invalid_token"]),
    ] {
        let error = lab.fails(1, simulate).context(words[1])?;
        for word in words {
            ensure!(error.contains(word), "{word:?} is not in: {error}");
        }
    }
    Ok(())
}
