//! The login of Amazon MSK by IAM: a token for OAUTHBEARER, signed with AWS credentials. [`credentials`] and [`service`] find these,
//! [`sign`] makes the token. It is valid for 15 minutes; brokers ask for a newer one before that, so it is made anew after two thirds of its time.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::config::{KafkaConfig, SaslMechanism, SecurityProtocol};

mod credentials;
mod service;
mod sign;

pub(super) use sign::Token;

/// Of the token's lifetime, how much has passed when a new one is made.
const RENEW_AFTER: f64 = 2.0 / 3.0;

/// Why there is no token, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoToken {
    #[error(
        "the AWS region of the cluster is not known (set kafka.sasl_aws_region, or the variable AWS_REGION)"
    )]
    Region,
    #[error(
        "there are no AWS credentials: {0} (give this machine or container a role, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws/credentials in kafka.sasl_aws_profile)"
    )]
    Credentials(String),
    #[error("the AWS credentials expired at {0} (renew them where they come from)")]
    Expired(String),
}

/// Whether this login is by IAM.
pub(super) fn is_iam(config: &KafkaConfig) -> bool {
    config.security_protocol == SecurityProtocol::SaslSsl && config.sasl_mechanism == SaslMechanism::AwsMskIam
}

/// The token that was made last.
struct Made {
    token: Token,
    /// Region and profile.
    of: (Option<String>, Option<String>),
    at: Instant,
    /// By this machine's clock when it was made.
    lifetime: Duration,
}

static MADE: Mutex<Option<Made>> = Mutex::new(None);

/// A token that is valid: the last one, as long as there is no newer. May ask an endpoint for credentials.
pub(super) fn token(config: &KafkaConfig) -> Result<Token, NoToken> {
    renew(config).or_else(|error| {
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let last = made.as_ref().filter(|made| made.of == of(config) && made.is_valid());
        last.map(|made| made.token.clone()).ok_or(error)
    })
}

fn of(config: &KafkaConfig) -> (Option<String>, Option<String>) {
    (config.sasl_aws_region.clone(), config.sasl_aws_profile.clone())
}

/// As [`token`], and an error if it is time for a new one and there is none.
pub(super) fn renew(config: &KafkaConfig) -> Result<Token, NoToken> {
    let of = of(config);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(made) = made.as_ref().filter(|made| made.of == of && !made.is_due()) {
        return Ok(made.token.clone());
    }
    let region = region(config).ok_or(NoToken::Region)?;
    let found = credentials::find(&region, config.sasl_aws_profile.as_deref())?;
    let now = SystemTime::now();
    let token = sign::token(&region, &found, now, sign::USER_AGENT)?;
    let lifetime = token.expires.duration_since(now).unwrap_or_default();
    tracing::debug!(region, seconds = lifetime.as_secs(), "a new token for Amazon MSK");
    *made = Some(Made { token: token.clone(), of, at: Instant::now(), lifetime });
    Ok(token)
}

impl Made {
    /// By the monotonic clock: that of the wall may be set meanwhile.
    fn is_due(&self) -> bool {
        self.at.elapsed() >= self.lifetime.mul_f64(RENEW_AFTER)
    }

    fn is_valid(&self) -> bool {
        self.at.elapsed() < self.lifetime
    }
}

/// The region: as it is set, or of the environment, or in the brokers' names, or of the profile.
fn region(config: &KafkaConfig) -> Option<String> {
    config
        .sasl_aws_region
        .clone()
        .or_else(|| credentials::variable("AWS_REGION"))
        .or_else(|| credentials::variable("AWS_DEFAULT_REGION"))
        .or_else(|| config.bootstrap_servers.iter().find_map(|server| region_of(server)))
        .or_else(|| credentials::region_of_profile(config.sasl_aws_profile.as_deref()))
}

/// "b-1.plant.abc123.c2.kafka.eu-west-1.amazonaws.com:9098" is in eu-west-1.
fn region_of(server: &str) -> Option<String> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let (rest, region) = name.rsplit_once('.')?;
    let service = rest.rsplit_once('.').map_or(rest, |(_, service)| service);
    matches!(service, "kafka" | "kafka-serverless").then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_in_the_names_of_the_brokers() {
        for (server, region) in [
            ("b-1.plant.abc123.c2.kafka.eu-west-1.amazonaws.com:9098", Some("eu-west-1")),
            ("boot-x1.c1.kafka-serverless.us-east-2.amazonaws.com:9098", Some("us-east-2")),
            ("b-2.plant.abc123.c2.kafka.cn-north-1.amazonaws.com.cn:9098", Some("cn-north-1")),
            ("kafka1.example:9098", None),
            ("host.ec2.eu-west-1.amazonaws.com:9098", None),
        ] {
            assert_eq!(region_of(server).as_deref(), region, "{server}");
        }
        let set = KafkaConfig { sasl_aws_region: Some("eu-central-1".into()), ..Default::default() };
        assert_eq!(region(&set).as_deref(), Some("eu-central-1"));
    }
}
