//! AWS credentials: of the environment, then of the shared files of AWS's tools, then of the place where the program runs
//! ([`super::service`]). They are looked up for each token, so what is renewed in the files is used.
//!
//! The crates that do this, aws-config and aws-msk-iam-sasl-signer, bring AWS's whole runtime for clients; what is needed here is two
//! files and three requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{NoToken, service};
use crate::config::Secret;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
    /// Only with temporary credentials.
    pub(super) session_token: Option<Secret>,
    pub(super) expires: Option<SystemTime>,
}

/// The environment of the process; tests bring their own.
pub(super) type Variables<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// A profile that is set comes before the variables, as with AWS's tools.
pub(super) fn find(region: &str, profile: Option<&str>) -> Result<Credentials, NoToken> {
    let found = match local(profile, &variable)? {
        Some(found) => found,
        None => service::find(region, &variable)?,
    };
    tracing::debug!(access_key = found.access_key, "AWS credentials");
    Ok(found)
}

pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What the environment and the files hold; `None` if they hold nothing.
fn local(profile: Option<&str>, variable: Variables<'_>) -> Result<Option<Credentials>, NoToken> {
    if profile.is_none()
        && let (Some(access_key), Some(secret_key)) =
            (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"))
    {
        let session_token = variable("AWS_SESSION_TOKEN").map(Secret::new);
        return Ok(Some(Credentials {
            access_key,
            secret_key: Secret::new(secret_key),
            session_token,
            expires: None,
        }));
    }
    let named = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
    let name = named.as_deref().unwrap_or("default");
    let profiles = profiles(variable);
    let Some(settings) = profiles.get(name) else {
        return match named {
            Some(name) => Err(NoToken::Credentials(format!("the shared files have no profile {name:?}"))),
            None => Ok(None),
        };
    };
    let setting = |key: &str| settings.get(key).filter(|value| !value.is_empty()).cloned();
    let (Some(access_key), Some(secret_key)) =
        (setting("aws_access_key_id"), setting("aws_secret_access_key"))
    else {
        return match named {
            Some(name) => Err(NoToken::Credentials(format!(
                "the profile {name:?} has no aws_access_key_id and aws_secret_access_key, and profiles of other kinds (role_arn, sso_session, credential_process) are not supported"
            ))),
            None => Ok(None),
        };
    };
    let session_token = setting("aws_session_token").map(Secret::new);
    Ok(Some(Credentials { access_key, secret_key: Secret::new(secret_key), session_token, expires: None }))
}

/// The region that the profile is for.
pub(super) fn region_of_profile(profile: Option<&str>) -> Option<String> {
    let name = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
    let mut profiles = profiles(&variable);
    profiles.remove(name.as_deref().unwrap_or("default"))?.remove("region")
}

/// Settings by profile, of both files; those of the credentials file count first.
fn profiles(variable: Variables<'_>) -> BTreeMap<String, BTreeMap<String, String>> {
    let home = variable("HOME").map(PathBuf::from);
    let file = |name: &str, usual: &str| {
        variable(name).map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".aws").join(usual)))
    };
    let mut profiles: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for path in [file("AWS_CONFIG_FILE", "config"), file("AWS_SHARED_CREDENTIALS_FILE", "credentials")] {
        let Some(text) = path.and_then(|path| std::fs::read_to_string(path).ok()) else { continue };
        for (profile, key, value) in settings(&text) {
            profiles.entry(profile).or_default().insert(key, value);
        }
    }
    profiles
}

/// (profile, key, value) of each line. `[profile NAME]` and `[NAME]` are the same; indented lines are parts of nested settings, which
/// nothing here needs.
fn settings(text: &str) -> Vec<(String, String, String)> {
    let mut profile = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if line.starts_with([' ', '\t']) || trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some((name, _)) = trimmed.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let name = name.trim();
            profile = Some(name.strip_prefix("profile").map_or(name, |rest| match rest.trim_start() {
                // A profile that begins with this word.
                _ if !rest.starts_with([' ', '\t']) => name,
                rest => rest,
            }));
        } else if let (Some(profile), Some((key, value))) = (profile, trimmed.split_once('=')) {
            found.push((profile.to_owned(), key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(
        profile: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<(String, Option<String>)>, NoToken> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let found = local(profile, &variable)?;
        Ok(found.map(|found| (found.access_key, found.session_token.map(|token| token.expose().to_owned()))))
    }

    #[test]
    fn credentials_are_of_the_environment_or_of_a_profile_of_the_shared_files() {
        let folder = tempfile::tempdir().unwrap();
        let (config, credentials) = (folder.path().join("config"), folder.path().join("credentials"));
        std::fs::write(
            &config,
            "[default]\nregion = eu-west-1\ns3 =\n  max = 2\n[profile plant]\nregion=us-east-2\n",
        )
        .unwrap();
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key = S=/+\n\n[plant]\n\
                    AWS_ACCESS_KEY_ID=B\naws_secret_access_key=T\naws_session_token = U\n[half]\naws_access_key_id = C\n";
        std::fs::write(&credentials, text).unwrap();
        let files = [
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
        ];
        let of = |key: &str, token: Option<&str>| Ok(Some((key.to_owned(), token.map(str::to_owned))));
        assert_eq!(found(None, &files), of("A", None));
        assert_eq!(found(Some("plant"), &files), of("B", Some("U")));
        let with = |more: &[(&'static str, &'static str)]| [&files[..], more].concat();
        assert_eq!(found(None, &with(&[("AWS_PROFILE", "plant")])), of("B", Some("U")));
        let own = [("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "F"), ("AWS_SESSION_TOKEN", "G")];
        assert_eq!(found(None, &with(&own)), of("E", Some("G")));
        assert_eq!(found(Some("plant"), &with(&own)), of("B", Some("U")));
        let error = found(Some("half"), &files).unwrap_err().to_string();
        assert!(error.contains("\"half\" has no aws_access_key_id"), "{error}");
        assert_eq!(found(None, &[("HOME", "/nowhere")]), Ok(None));
        let error = found(Some("other"), &files).unwrap_err().to_string();
        assert!(
            error.contains("no profile \"other\"") && error.contains("kafka.sasl_aws_profile"),
            "{error}"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials {
            access_key: "AKIA".into(),
            secret_key: Secret::new("hunter2"),
            session_token: Some(Secret::new("hunter3")),
            expires: None,
        };
        assert!(!format!("{credentials:?}").contains("hunter"));
    }
}
