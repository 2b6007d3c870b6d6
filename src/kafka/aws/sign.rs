//! The token: a URL that AWS Signature Version 4 signs in advance ("presigned"), in base64url. Steps and names are those of AWS's
//! documentation of Signature Version 4; which URL it is, and that the user agent is appended without being signed, is taken from AWS's
//! own signers (aws-msk-iam-sasl-signer-*), with one of which the test compares.
//!
//! It is five HMACs over one fixed request. The crate for it, aws-sigv4, would bring a dozen further ones.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::{digest, hmac};

use super::NoToken;
use super::credentials::Credentials;
use crate::encoding::{hex, percent_encoded};

/// How long a token is valid: what brokers accept at most.
const LIFETIME: Duration = Duration::from_secs(900);
const SERVICE: &str = "kafka-cluster";
pub(super) const USER_AGENT: &str = concat!("iotctl/", env!("CARGO_PKG_VERSION"));

/// A token and when it expires.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::kafka) struct Token {
    pub(in crate::kafka) text: String,
    pub(in crate::kafka) expires: SystemTime,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The token for a region at a moment. It ends with its credentials, if these end first.
pub(super) fn token(
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
    user_agent: &str,
) -> Result<Token, NoToken> {
    let expires = match credentials.expires {
        Some(expires) if expires <= now => {
            return Err(NoToken::Expired(DateTime::<Utc>::from(expires).to_rfc3339()));
        }
        Some(expires) => expires.min(now + LIFETIME),
        None => now + LIFETIME,
    };
    let now = DateTime::<Utc>::from(now);
    let (day, moment) = (now.format("%Y%m%d").to_string(), now.format("%Y%m%dT%H%M%SZ").to_string());
    let host = format!("kafka.{region}.amazonaws.com");
    let scope = format!("{day}/{region}/{SERVICE}/aws4_request");
    let mut query = vec![
        ("Action", "kafka-cluster:Connect".to_owned()),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", format!("{}/{scope}", credentials.access_key)),
        ("X-Amz-Date", moment.clone()),
        ("X-Amz-Expires", LIFETIME.as_secs().to_string()),
        ("X-Amz-SignedHeaders", "host".to_owned()),
    ];
    if let Some(session) = &credentials.session_token {
        query.push(("X-Amz-Security-Token", session.expose().to_owned()));
    }
    let mut sorted = query.clone();
    sorted.sort_unstable();
    let request = format!("GET\n/\n{}\nhost:{host}\n\nhost\n{}", encoded(&sorted), hash(b""));
    let signed = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hash(request.as_bytes()));
    let mut key = format!("AWS4{}", credentials.secret_key.expose()).into_bytes();
    for part in [day.as_str(), region, SERVICE, "aws4_request"] {
        key = sign(&key, part.as_bytes());
    }
    query.push(("X-Amz-Signature", hex(&sign(&key, signed.as_bytes()))));
    query.push(("User-Agent", user_agent.to_owned()));
    let text = BASE64_URL_SAFE_NO_PAD.encode(format!("https://{host}/?{}", encoded(&query)));
    Ok(Token { text, expires })
}

fn sign(key: &[u8], text: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// `name=value&…`, with everything encoded but letters, digits and `-._~`.
pub(super) fn encoded(query: &[(&str, String)]) -> String {
    let pairs =
        query.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value.as_bytes(), b"")));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::Secret;

    /// tokens.json was made by the package aws-msk-iam-sasl-signer-python (its version, and that of botocore, are in the file), with
    /// these credentials in the environment and `botocore.auth.get_current_datetime` set to the moment.
    #[test]
    fn a_token_is_the_one_that_the_signer_of_aws_makes() {
        let fixture: Value = serde_json::from_str(include_str!("tokens.json")).unwrap();
        let tokens = fixture["tokens"].as_array().unwrap();
        assert_eq!(tokens.len(), 2);
        for expected in tokens {
            let text = |name: &str| expected[name].as_str().unwrap();
            let credentials = Credentials {
                access_key: text("access_key").to_owned(),
                secret_key: Secret::new(text("secret_key")),
                session_token: expected["session_token"].as_str().map(Secret::new),
                expires: None,
            };
            let now = DateTime::parse_from_rfc3339(text("moment")).unwrap().into();
            let made = token(text("region"), &credentials, now, text("user_agent")).unwrap();
            assert_eq!(made.text, text("token"));
            let expires = made.expires.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(u64::try_from(expires.as_millis()).unwrap(), expected["expires_ms"]);
        }
    }

    #[test]
    fn a_token_ends_with_its_credentials() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let until = |expires| Credentials {
            access_key: "AKIA".into(),
            secret_key: Secret::new("secret"),
            session_token: None,
            expires: Some(expires),
        };
        let soon = now + Duration::from_secs(60);
        assert_eq!(token("eu-west-1", &until(soon), now, USER_AGENT).unwrap().expires, soon);
        let late = now + Duration::from_secs(7200);
        assert_eq!(token("eu-west-1", &until(late), now, USER_AGENT).unwrap().expires, now + LIFETIME);
        let error = token("eu-west-1", &until(now), now, USER_AGENT).unwrap_err().to_string();
        assert!(error.contains("expired at 2027-01-15T08:00:00"), "{error}");
        assert!(!format!("{:?}", token("eu-west-1", &until(soon), now, USER_AGENT)).contains("aHR0"));
    }
}
