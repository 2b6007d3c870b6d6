//! How the Prometheus of `up --monitoring` asks `iotctl ingest` and `iotctl monitor`: over TLS and with a token of its own
//! where `[http]` says so, at the addresses of `[local]`.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{HttpConfig, LocalConfig};
use crate::http::login::{Role, token};
use crate::tls::server::name_for;

/// The jobs of prometheus.yml whose targets are listeners of iotctl.
const JOBS: [&str; 2] = ["ingest", "monitor"];
/// The token's name in `http.tokens_file`.
const TOKEN: &str = "prometheus-of-up";

/// What a job needs beyond its addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scraping {
    tls: Option<Tls>,
    token_file: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
struct Tls {
    /// Prometheus trusts the listener's own certificate, which it reads again when it changes.
    certificate: PathBuf,
    /// A name of the certificate, where it does not have the targets' addresses.
    server_name: Option<String>,
}

impl Scraping {
    /// For the Prometheus of `dir`, which gets a file with its token.
    pub(super) fn of(http: &HttpConfig, local: &LocalConfig, dir: &Path) -> anyhow::Result<Self> {
        let tls = http.cert_file.as_deref().map(|certificate| {
            let targets = local.ingest_metrics.iter().chain(&local.monitor_metrics);
            let targets: Vec<IpAddr> =
                targets.filter_map(|target| target.parse::<SocketAddr>().ok()).map(|it| it.ip()).collect();
            let server_name = name_for("http.cert_file", certificate, &targets)?;
            Ok::<_, anyhow::Error>(Tls { certificate: std::path::absolute(certificate)?, server_name })
        });
        let token_file = http.tokens_file.as_deref().map(|tokens| token_file(tokens, dir));
        Ok(Self { tls: tls.transpose()?, token_file: token_file.transpose()? })
    }

    /// prometheus.yml with these settings in its jobs.
    pub(super) fn within(&self, text: &str) -> String {
        let mut settings = String::new();
        if let Some(Tls { certificate, server_name }) = &self.tls {
            let name = server_name.as_ref().map(|name| format!(", server_name: {name:?}"));
            settings += &format!(
                "    scheme: https\n    tls_config: {{ ca_file: {}{} }}\n",
                quoted(certificate),
                name.unwrap_or_default()
            );
        }
        if let Some(file) = &self.token_file {
            settings += &format!("    authorization: {{ credentials_file: {} }}\n", quoted(file));
        }
        let mut whole = String::new();
        for line in text.lines() {
            whole += line;
            whole.push('\n');
            let job = line.trim_start().strip_prefix("- job_name: ");
            if job.is_some_and(|job| JOBS.contains(&job)) {
                whole += &settings;
            }
        }
        whole
    }
}

/// A path in YAML.
fn quoted(path: &Path) -> String {
    serde_json::Value::from(path.display().to_string()).to_string()
}

/// The file with the token of this Prometheus. A token that is not known, as after `iotctl token remove`, is replaced.
fn token_file(tokens: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
    let file = std::path::absolute(dir.join("token"))?;
    let remedy = || format!("cannot give Prometheus a token (make {} writable)", tokens.display());
    if tokens.exists()
        && let Ok(known) = std::fs::read_to_string(&file)
        && token::is_known(tokens, known.trim()).with_context(remedy)?
    {
        return Ok(file);
    }
    if tokens.exists() && token::has_name(tokens, TOKEN).with_context(remedy)? {
        token::remove(tokens, TOKEN).with_context(remedy)?;
    }
    let new = token::add(tokens, TOKEN, Role::Viewer).with_context(remedy)?;
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let _ = std::fs::remove_file(&file);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?.write_all(new.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::local::monitoring::PROMETHEUS;

    fn http(folder: &Path, names: &[&str]) -> HttpConfig {
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        HttpConfig {
            cert_file: Some(certificate),
            key_file: Some(key),
            tokens_file: Some(folder.join("tokens")),
            ..Default::default()
        }
    }

    #[test]
    fn prometheus_asks_as_the_listeners_demand_and_nothing_else_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (local, dir) = (LocalConfig::default(), folder.path().join("prometheus"));
        assert_eq!(
            Scraping::of(&HttpConfig::default(), &local, &dir).unwrap().within(PROMETHEUS),
            PROMETHEUS
        );
        let scraping = Scraping::of(&http(folder.path(), &["iot.example"]), &local, &dir).unwrap();
        let text = scraping.within(PROMETHEUS);
        let job = |name: &str| {
            let (_, rest) = text.split_once(&format!("- job_name: {name}\n")).unwrap();
            rest.split("\n  - job_name").next().unwrap().to_owned()
        };
        for name in JOBS {
            let job = job(name);
            assert!(job.contains("    scheme: https\n"), "{job}");
            assert!(job.contains("cert.pem\", server_name: \"iot.example\" }"), "{job}");
            assert!(job.contains("credentials_file: ") && job.contains("file_sd_configs"), "{job}");
        }
        assert!(!job("cassandra").contains("scheme") && !job("cassandra").contains("authorization"));
    }

    #[test]
    fn a_certificate_with_the_targets_address_needs_no_other_name() {
        let folder = tempfile::tempdir().unwrap();
        let config = HttpConfig { tokens_file: None, ..http(folder.path(), &["127.0.0.1", "localhost"]) };
        let found = Scraping::of(&config, &LocalConfig::default(), folder.path()).unwrap();
        assert_eq!(found.tls.unwrap().server_name, None);
        let elsewhere = LocalConfig { ingest_metrics: vec!["127.0.0.7:9464".into()], ..Default::default() };
        let found = Scraping::of(&config, &elsewhere, folder.path()).unwrap();
        assert_eq!(found.tls.unwrap().server_name.as_deref(), Some("localhost"));
    }

    #[test]
    fn the_token_is_kept_while_it_is_known_and_is_a_viewers() {
        let folder = tempfile::tempdir().unwrap();
        let (tokens, dir) = (folder.path().join("tokens"), folder.path().join("prometheus"));
        token::add(&tokens, "ada", Role::Operator).unwrap();
        let file = token_file(&tokens, &dir).unwrap();
        let read = || std::fs::read_to_string(&file).unwrap();
        let first = read();
        assert_eq!(token_file(&tokens, &dir).unwrap(), file);
        assert_eq!(read(), first);
        token::remove(&tokens, TOKEN).unwrap();
        token_file(&tokens, &dir).unwrap();
        let second = read();
        assert_ne!(second, first);
        assert!(token::is_known(&tokens, &second).unwrap() && !token::is_known(&tokens, &first).unwrap());
        // Its file is lost.
        std::fs::remove_file(&file).unwrap();
        token_file(&tokens, &dir).unwrap();
        let text = std::fs::read_to_string(&tokens).unwrap();
        assert_eq!(text.matches("prometheus-of-up viewer").count(), 1, "{text}");
        assert!(text.contains("ada operator"));
    }
}
