//! The Spark jobs of `spark/`, embedded in the binary, and the spark-submit that runs them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

use crate::config::{CassandraConfig, Config};
use crate::error::{Interrupted, UsageError};
use crate::output::Output;
use crate::servers::local::jars::SPARK_CASSANDRA;
use crate::servers::local::java::{self, Places};
use crate::servers::local::layout::cache_dir;
use crate::servers::local::progress::ProgressLines;
use crate::shutdown::Shutdown;

const INSTALL: &str = "install Spark 3.5, for example with `python3 -m venv spark && spark/bin/pip install 'pyspark==3.5.*'`, and \
     put its bin on the PATH, or set SPARK_HOME";
/// How long a job may take to end after SIGTERM.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A job of `spark/`.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    pub name: &'static str,
    pub about: &'static str,
    script: &'static str,
}

pub const JOBS: [Job; 4] = [
    Job {
        name: "hourly_aggregates",
        about: "Each sensor's metrics by hour: count, min, max, sum, mean, standard deviation",
        script: include_str!("../../spark/hourly_aggregates.py"),
    },
    Job {
        name: "daily_aggregates",
        about: "Each sensor's metrics by day: count, min, max, sum, mean, standard deviation",
        script: include_str!("../../spark/daily_aggregates.py"),
    },
    Job {
        name: "fleet_health",
        about: "How regularly each sensor sends: intervals, gaps, missing values",
        script: include_str!("../../spark/fleet_health.py"),
    },
    Job {
        name: "anomaly_training_set",
        about: "Each value with the values before it, as features for a detector",
        script: include_str!("../../spark/anomaly_training_set.py"),
    },
];

const SHARED: &str = include_str!("../../spark/iot.py");

/// How to run a job.
#[derive(Debug, Clone)]
pub struct Run {
    pub master: String,
    /// `--from`, `--to`, `--output`, `--table` of the script.
    pub script_arguments: Vec<OsString>,
    /// Further arguments of spark-submit.
    pub extra: Vec<String>,
}

/// The job with a name; dashes and underscores are equivalent.
pub fn job(name: &str) -> Result<Job, UsageError> {
    let wanted = name.replace('-', "_");
    JOBS.into_iter().find(|job| job.name == wanted).ok_or_else(|| {
        let names: Vec<_> = JOBS.iter().map(|job| job.name).collect();
        UsageError::new(format!("unknown job {name:?} (available: {})", names.join(", ")))
    })
}

/// Runs a job to its end.
pub async fn run(
    job: Job,
    run: Run,
    config: &Config,
    output: Output,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    check_tls(&config.cassandra, &run.extra)?;
    let submit = find_submit(&Surroundings::of_this_process())?;
    let java = java::find(&Places::of_this_machine()).await?;
    let board = ProgressLines::new(output);
    let jars = SPARK_CASSANDRA.fetch(&cache_dir(&config.local)?, &java, &board, shutdown).await?;
    let folder = tempfile::Builder::new().prefix("iotctl-spark-").tempdir()?;
    let script = folder.path().join(format!("{}.py", job.name));
    let shared = folder.path().join("iot.py");
    std::fs::write(&script, job.script)?;
    std::fs::write(&shared, SHARED)?;

    let mut command = tokio::process::Command::new(&submit);
    if let Some(home) = java.home() {
        command.env("JAVA_HOME", home);
    }
    let python = submit.with_file_name("python");
    if std::env::var_os("PYSPARK_PYTHON").is_none() && python.is_file() {
        command.env("PYSPARK_PYTHON", python);
    }
    command.args(["--master", &run.master, "--jars"]).arg(list_jars(&jars)?).arg("--py-files").arg(&shared);
    for (key, value) in connection(&config.cassandra)? {
        command.arg("--conf").arg(format!("{key}={value}"));
    }
    if run.master.starts_with("local") {
        // A run on one machine needs nothing on the network.
        for setting in
            ["spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.ui.enabled=false"]
        {
            command.args(["--conf", setting]);
        }
    }
    command.args(["--conf", "spark.log.level=WARN"]);
    if let Some(ca) = &config.cassandra.tls.ca_file
        && config.cassandra.tls.enabled
    {
        let store = folder.path().join("authorities.p12");
        let password = Uuid::new_v4().simple().to_string();
        make_trust_store(&java, ca, &store, &password).await?;
        command.args(["--conf", "spark.cassandra.connection.ssl.enabled=true"]);
        command.args(["--conf", "spark.cassandra.connection.ssl.trustStore.type=PKCS12", "--conf"]);
        command.arg(format!("spark.cassandra.connection.ssl.trustStore.path={}", store.display()));
        command.env("IOTCTL_SPARK_TRUST_STORE_PASSWORD", password);
    }
    if let (Some(user), Some(password)) = (&config.cassandra.username, &config.cassandra.password) {
        command.env("IOTCTL_SPARK_USERNAME", user).env("IOTCTL_SPARK_PASSWORD", password.expose());
    }
    command.args(&run.extra).arg(&script).args(["--keyspace", &config.cassandra.keyspace]);
    command.args(&run.script_arguments).stdin(std::process::Stdio::null());
    wait_for(command, &submit, job, shutdown).await
}

async fn wait_for(
    mut command: tokio::process::Command,
    submit: &Path,
    job: Job,
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    let started = command.kill_on_drop(true).spawn();
    let mut child = started.with_context(|| format!("cannot start {}", submit.display()))?;
    tokio::select! {
        status = child.wait() => match status?.success() {
            true => Ok(()),
            false => bail!("the job {} failed; see Spark's output above", job.name),
        },
        () = shutdown.requested() => {
            if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
            let _ = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await;
            Err(Interrupted.into())
        }
    }
}

/// Where to look for spark-submit; tests look elsewhere.
#[derive(Debug, Default)]
struct Surroundings {
    spark_home: Option<PathBuf>,
    virtual_env: Option<PathBuf>,
    path: Option<OsString>,
}

impl Surroundings {
    fn of_this_process() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            spark_home: variable("SPARK_HOME").map(Into::into),
            virtual_env: variable("VIRTUAL_ENV").map(Into::into),
            path: variable("PATH"),
        }
    }
}

/// From SPARK_HOME, if it is set; else from the active virtual environment; else from the PATH.
fn find_submit(surroundings: &Surroundings) -> anyhow::Result<PathBuf> {
    if let Some(home) = &surroundings.spark_home {
        let submit = home.join("bin/spark-submit");
        return match submit.is_file() {
            true => Ok(submit),
            false => Err(UsageError::new(format!(
                "SPARK_HOME={}: no bin/spark-submit found in it ({INSTALL})",
                home.display()
            ))
            .into()),
        };
    }
    let in_env = surroundings.virtual_env.iter().map(|env| env.join("bin"));
    let on_path = surroundings.path.iter().flat_map(std::env::split_paths);
    in_env
        .chain(on_path)
        .map(|folder| folder.join("spark-submit"))
        .find(|submit| submit.is_file())
        .with_context(|| format!("no spark-submit found ({INSTALL})"))
}

fn list_jars(folder: &Path) -> anyhow::Result<OsString> {
    let mut jars = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jar") {
            jars.push(path);
        }
    }
    jars.sort();
    let jars: Vec<_> = jars.iter().map(|jar| jar.as_os_str()).collect();
    Ok(jars.join(OsString::from(",").as_os_str()))
}

/// The connector's settings, without a password. The connector takes one port for all nodes.
fn connection(config: &CassandraConfig) -> Result<Vec<(&'static str, String)>, UsageError> {
    let mut hosts = Vec::new();
    let mut ports = Vec::new();
    for point in &config.contact_points {
        let has_port = !point.ends_with(']') && (point.starts_with('[') || point.matches(':').count() == 1);
        let (host, port) = match point.rsplit_once(':') {
            Some((host, port)) if has_port => (host, port),
            _ => (point.as_str(), "9042"),
        };
        hosts.push(host.trim_matches(['[', ']']).to_owned());
        ports.push(port.to_owned());
    }
    ports.dedup();
    let [port] = &ports[..] else {
        return Err(UsageError::new(
            "Spark's connector needs the same port on all nodes (name contact points with the same port)",
        ));
    };
    let consistency = format!("{:?}", config.read_consistency);
    let mut settings = vec![
        ("spark.cassandra.connection.host", hosts.join(",")),
        ("spark.cassandra.connection.port", port.clone()),
        ("spark.cassandra.input.consistency.level", screaming(&consistency)),
        ("spark.cassandra.output.consistency.level", screaming(&format!("{:?}", config.write_consistency))),
    ];
    if let Some(datacenter) = &config.local_datacenter {
        settings.push(("spark.cassandra.connection.localDC", datacenter.clone()));
    }
    Ok(settings)
}

/// `LocalQuorum` as CQL's LOCAL_QUORUM.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (index, character) in name.char_indices() {
        if index > 0 && character.is_uppercase() {
            text.push('_');
        }
        text.push(character.to_ascii_uppercase());
    }
    text
}

/// The client's own certificate is a PEM file, but the connector only reads key stores.
fn check_tls(config: &CassandraConfig, extra: &[String]) -> Result<(), UsageError> {
    let key_store = "spark.cassandra.connection.ssl.keyStore.path";
    if config.tls.enabled
        && config.tls.cert_file.is_some()
        && !extra.iter().any(|text| text.contains(key_store))
    {
        return Err(UsageError::new(format!(
            "Spark's connector reads the client's certificate from a key store (create one with `openssl pkcs12 -export` \
             and name it after --, as --properties-file FILE or --conf {key_store}=FILE)"
        )));
    }
    Ok(())
}

async fn make_trust_store(java: &java::Java, ca: &Path, store: &Path, password: &str) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(java.program.with_file_name("keytool"));
    command.args(["-importcert", "-noprompt", "-alias", "ca", "-storetype", "PKCS12"]);
    command.args(["-storepass:env", "IOTCTL_STORE_PASSWORD", "-file"]).arg(ca).arg("-keystore").arg(store);
    command.env("IOTCTL_STORE_PASSWORD", password);
    java::run(command, "create a trust store from cassandra.tls.ca_file", Duration::from_secs(60)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spark_submit_is_found_or_the_remedy_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let error = find_submit(&Surroundings::default()).unwrap_err().to_string();
        assert!(error.contains("pip install") && error.contains("SPARK_HOME"), "{error}");
        let home = Surroundings { spark_home: Some(folder.path().into()), ..Default::default() };
        assert!(find_submit(&home).unwrap_err().to_string().contains("no bin/spark-submit"));
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::fs::write(folder.path().join("bin/spark-submit"), "").unwrap();
        assert!(find_submit(&home).is_ok());
        let env = Surroundings { virtual_env: Some(folder.path().into()), ..Default::default() };
        assert!(find_submit(&env).is_ok());
    }

    #[test]
    fn contact_points_become_hosts_and_one_port_and_the_password_is_not_shown() {
        let mut config = CassandraConfig {
            contact_points: vec!["10.0.0.1:9142".into(), "[::1]:9142".into()],
            password: Some(crate::config::Secret::new("hush")),
            ..Default::default()
        };
        let settings = connection(&config).unwrap();
        assert_eq!(settings[0].1, "10.0.0.1,::1");
        assert_eq!(settings[1].1, "9142");
        assert!(settings.contains(&("spark.cassandra.input.consistency.level", "LOCAL_QUORUM".into())));
        assert!(!format!("{settings:?}").contains("hush"));
        config.contact_points.push("node3".into());
        assert!(connection(&config).is_err());
    }

    #[test]
    fn a_job_is_found_by_its_name() {
        assert_eq!(job("fleet-health").unwrap().name, "fleet_health");
        assert!(job("fleet").unwrap_err().to_string().contains("hourly_aggregates"));
    }
}
