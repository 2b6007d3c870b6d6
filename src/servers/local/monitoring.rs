//! `up --monitoring`: Prometheus, node_exporter and Grafana where they are installed, and the agent in each JVM, all on
//! the files of the repository's `monitoring/` folder, which are part of the binary.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::Kind;
use super::cluster::{Cluster, Server};
use super::layout::Layout;
use super::scraping::Scraping;
use crate::config::{HttpConfig, LocalConfig};

pub(super) const PROMETHEUS: &str = include_str!("../../../monitoring/prometheus/prometheus.yml");
const RECORDING_RULES: &str = include_str!("../../../monitoring/prometheus/recording.rules.yml");
const ALERT_RULES: &str = include_str!("../../../monitoring/prometheus/alerts.rules.yml");
const CASSANDRA_RULES: &str = include_str!("../../../monitoring/jmx_exporter/cassandra.yml");
const KAFKA_RULES: &str = include_str!("../../../monitoring/jmx_exporter/kafka.yml");
const DATA_SOURCES: &str =
    include_str!("../../../monitoring/grafana/provisioning/datasources/prometheus.yml");
const SENSOR_SOURCE: &str = include_str!("../../../monitoring/grafana/provisioning/datasources/sensors.yml");
const SENSOR_PROVIDER: &str = include_str!("../../../monitoring/grafana/provisioning/dashboards/sensors.yml");
const SENSOR_DASHBOARDS: [(&str, &str); 4] = [
    ("fleet.json", include_str!("../../../monitoring/grafana/sensors/fleet.json")),
    ("sensor.json", include_str!("../../../monitoring/grafana/sensors/sensor.json")),
    ("weeks.json", include_str!("../../../monitoring/grafana/sensors/weeks.json")),
    ("alerts.json", include_str!("../../../monitoring/grafana/sensors/alerts.json")),
];
/// Where `iotctl serve` listens unless it is told otherwise.
const SQL_PORT: u16 = 5433;
const PROVIDER: &str = include_str!("../../../monitoring/grafana/provisioning/dashboards/iotctl.yml");
const DASHBOARDS: [(&str, &str); 4] = [
    ("pipeline.json", include_str!("../../../monitoring/grafana/dashboards/pipeline.json")),
    ("cassandra.json", include_str!("../../../monitoring/grafana/dashboards/cassandra.json")),
    ("kafka.json", include_str!("../../../monitoring/grafana/dashboards/kafka.json")),
    ("system.json", include_str!("../../../monitoring/grafana/dashboards/system.json")),
];

/// The programs that are looked for, and what installs each.
pub const PROGRAMS: [(Kind, &str); 3] = [
    (Kind::Prometheus, "apt install prometheus"),
    (Kind::NodeExporter, "apt install prometheus-node-exporter"),
    (Kind::Grafana, "see grafana.com/docs: Debian has no package of it"),
];

/// The programs of [`PROGRAMS`] that are on the PATH.
pub fn installed() -> Vec<Kind> {
    PROGRAMS.iter().map(|(kind, _)| *kind).filter(|kind| program(*kind).is_some()).collect()
}

fn program(kind: Kind) -> Option<PathBuf> {
    let names: &[&str] = match kind {
        Kind::Prometheus => &["prometheus"],
        Kind::NodeExporter => &["prometheus-node-exporter", "node_exporter"],
        Kind::Grafana => &["grafana-server", "grafana"],
        Kind::Cassandra | Kind::Kafka | Kind::Zookeeper => &[],
    };
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).flat_map(|dir| names.iter().map(move |name| dir.join(name)));
    found.into_iter().find(|program| program.is_file())
}

/// The agent's option for a JVM that shows its metrics at `address`, with its rules written beside the server's data.
pub fn agent_option(jars: &Path, address: SocketAddr, kind: Kind, dir: &Path) -> anyhow::Result<String> {
    let rules = match kind {
        Kind::Cassandra => CASSANDRA_RULES,
        _ => KAFKA_RULES,
    };
    let file = dir.join("jmx_exporter.yml");
    write(&file, rules)?;
    let entries = std::fs::read_dir(jars).with_context(|| format!("cannot list {}", jars.display()))?;
    let jar = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "jar"));
    let Some(jar) = jar else {
        bail!("there is no agent in {} (delete that folder, and run again)", jars.display())
    };
    Ok(format!("-javaagent:{}={address}:{}", jar.display(), file.display()))
}

/// What the watching servers have in common.
#[derive(Debug, Clone)]
pub struct Watchers<'a> {
    pub config: &'a LocalConfig,
    pub layout: &'a Layout,
    pub cluster: &'a Cluster,
}

impl Watchers<'_> {
    /// Writes the server's configuration and returns the command that runs it. `http` is how iotctl itself listens.
    pub fn prepare(&self, server: &Server, http: &HttpConfig) -> anyhow::Result<Command> {
        let program = program(server.kind)
            .with_context(|| format!("{} is not on the PATH any more (install it again)", server.kind))?;
        let dir = self.layout.server_dir(&server.name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let mut command = Command::new(&program);
        command.current_dir(&dir);
        match server.kind {
            Kind::Prometheus => self.prometheus(server, http, &dir, &mut command)?,
            Kind::Grafana => self.grafana(server, &dir, &program, &mut command)?,
            _ => {
                command.arg(format!("--web.listen-address={}", server.address));
            }
        }
        Ok(command)
    }

    fn prometheus(
        &self,
        server: &Server,
        http: &HttpConfig,
        dir: &Path,
        command: &mut Command,
    ) -> anyhow::Result<()> {
        write(&dir.join("prometheus.yml"), &Scraping::of(http, self.config, dir)?.within(PROMETHEUS))?;
        write(&dir.join("recording.rules.yml"), RECORDING_RULES)?;
        write(&dir.join("alerts.rules.yml"), ALERT_RULES)?;
        self.write_targets(dir)?;
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg("--storage.tsdb.retention.time=15d");
        command.arg(format!("--web.listen-address={}", server.address));
        Ok(())
    }

    /// What Prometheus scrapes; it reads these files again when they change.
    pub fn write_targets(&self, dir: &Path) -> anyhow::Result<()> {
        let servers = self.cluster.servers(self.config)?;
        let addresses = |kind: Kind| {
            servers.iter().filter(move |server| server.kind == kind).map(move |server| match kind {
                Kind::Cassandra => SocketAddr::new(server.address.ip(), self.config.cassandra_metrics_port),
                Kind::Kafka => SocketAddr::new(server.address.ip(), self.config.kafka_metrics_port),
                _ => server.address,
            })
        };
        let targets = dir.join("targets");
        for (name, kind) in [
            ("cassandra", Kind::Cassandra),
            ("kafka", Kind::Kafka),
            ("node", Kind::NodeExporter),
            ("prometheus", Kind::Prometheus),
        ] {
            write(
                &targets.join(format!("{name}.yml")),
                &target_file(&format!("{WRITTEN}; edits are lost.\n"), addresses(kind)),
            )?;
        }
        let own = [("ingest", &self.config.ingest_metrics), ("monitor", &self.config.monitor_metrics)];
        for (name, addresses) in own {
            let file = targets.join(format!("{name}.yml"));
            // What somebody has written there stays.
            let is_ours = std::fs::read_to_string(&file).map_or(true, |text| text.starts_with(WRITTEN));
            if is_ours {
                let header = format!(
                    "{WRITTEN} from local.{name}_metrics; without this line, what you write stays.\n"
                );
                write(&file, &target_file(&header, addresses.iter()))?;
            }
        }
        Ok(())
    }

    fn grafana(
        &self,
        server: &Server,
        dir: &Path,
        program: &Path,
        command: &mut Command,
    ) -> anyhow::Result<()> {
        let (provisioning, dashboards) = (dir.join("provisioning"), dir.join("dashboards"));
        let sensors = dir.join("sensors");
        write(&provisioning.join("datasources/sensors.yml"), SENSOR_SOURCE)?;
        write(&provisioning.join("dashboards/sensors.yml"), SENSOR_PROVIDER)?;
        for (name, text) in SENSOR_DASHBOARDS {
            write(&sensors.join(name), text)?;
        }
        write(&provisioning.join("datasources/prometheus.yml"), DATA_SOURCES)?;
        write(&provisioning.join("dashboards/iotctl.yml"), PROVIDER)?;
        for (name, text) in DASHBOARDS {
            write(&dashboards.join(name), text)?;
        }
        if program.file_name().is_some_and(|name| name == "grafana") {
            command.arg("server");
        }
        command.args(["--homepath", "/usr/share/grafana"]);
        let prometheus = SocketAddr::from((self.cluster.address, self.config.prometheus_port));
        let settings = [
            ("GF_SERVER_HTTP_ADDR", server.address.ip().to_string()),
            ("GF_SERVER_HTTP_PORT", server.address.port().to_string()),
            ("GF_PATHS_DATA", dir.join("data").display().to_string()),
            ("GF_PATHS_LOGS", dir.join("logs").display().to_string()),
            ("GF_PATHS_PROVISIONING", provisioning.display().to_string()),
            // It is bound to loopback: whoever reaches it may look, and only look.
            ("GF_AUTH_ANONYMOUS_ENABLED", "true".into()),
            ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer".into()),
            ("GF_ANALYTICS_REPORTING_ENABLED", "false".into()),
            ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false".into()),
            ("PROMETHEUS_URL", format!("http://{prometheus}")),
            ("IOTCTL_DASHBOARDS", dashboards.display().to_string()),
            ("IOTCTL_SENSOR_DASHBOARDS", sensors.display().to_string()),
            // On loopback `iotctl serve` needs neither TLS nor a login.
            ("IOTCTL_SQL", SocketAddr::from((Ipv4Addr::LOCALHOST, SQL_PORT)).to_string()),
            ("IOTCTL_SQL_USER", "grafana".into()),
            ("IOTCTL_SQL_PASSWORD", "none".into()),
            ("IOTCTL_SQL_SSLMODE", "disable".into()),
        ];
        command.envs(settings);
        Ok(())
    }
}

/// How a file of targets begins that `up` may replace.
const WRITTEN: &str = "# Written by `iotctl up` at each start";

/// A file of Prometheus' file-based discovery.
fn target_file(header: &str, addresses: impl Iterator<Item = impl Display>) -> String {
    let lines: String = addresses.map(|address| format!("    - \"{address}\"\n")).collect();
    match lines.is_empty() {
        true => format!("{header}[]\n"),
        false => format!("{header}- targets:\n{lines}"),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(context)?;
    }
    std::fs::write(path, text).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servers::local::KafkaMode;

    fn prepared(kind: Kind) -> (tempfile::TempDir, Command, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (command, folder) = prepared_in(dir.path(), kind, LocalConfig::default());
        (dir, command, folder)
    }

    fn prepared_in(dir: &Path, kind: Kind, config: LocalConfig) -> (Command, PathBuf) {
        let config = LocalConfig { data_dir: Some(dir.to_owned()), ..config };
        let layout = Layout::of(&config).unwrap();
        let cluster = Cluster {
            monitoring: Some(vec![Kind::Prometheus, Kind::Grafana]),
            ..Cluster::fresh(2, KafkaMode::Kraft, config.address)
        };
        let servers = cluster.servers(&config).unwrap();
        let server = servers.iter().find(|server| server.kind == kind).unwrap();
        let watchers = Watchers { config: &config, layout: &layout, cluster: &cluster };
        let folder = layout.server_dir(&server.name);
        let mut command = Command::new("grafana");
        match kind {
            Kind::Prometheus => {
                watchers.prometheus(server, &HttpConfig::default(), &folder, &mut command).unwrap();
            }
            _ => watchers.grafana(server, &folder, Path::new("/usr/bin/grafana"), &mut command).unwrap(),
        }
        (command, folder)
    }

    #[test]
    fn prometheus_scrapes_what_runs_and_keeps_the_targets_that_somebody_wrote() {
        let (_dir, command, folder) = prepared(Kind::Prometheus);
        let read = |name: &str| std::fs::read_to_string(folder.join("targets").join(name)).unwrap();
        assert!(read("cassandra.yml").contains("- \"127.0.0.1:7070\"\n    - \"127.0.0.2:7070\"\n"));
        assert!(read("node.yml").ends_with("[]\n"), "there is no node_exporter to scrape");
        assert!(read("ingest.yml").contains("127.0.0.1:9464"));
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        assert!(arguments.iter().any(|argument| argument == "--web.listen-address=127.0.0.1:9090"));
    }

    #[test]
    fn the_addresses_of_ingest_and_monitor_follow_the_settings_unless_somebody_has_written_others() {
        let dir = tempfile::tempdir().unwrap();
        let at = |addresses: &[&str]| LocalConfig {
            ingest_metrics: addresses.iter().map(|&address| address.to_owned()).collect(),
            monitor_metrics: vec!["127.0.0.9:9465".into()],
            ..Default::default()
        };
        let (_, folder) = prepared_in(dir.path(), Kind::Prometheus, LocalConfig::default());
        let read = |name: &str| std::fs::read_to_string(folder.join("targets").join(name)).unwrap();
        prepared_in(dir.path(), Kind::Prometheus, at(&["127.0.0.9:9464", "other:9464"]));
        assert!(read("ingest.yml").ends_with("- targets:\n    - \"127.0.0.9:9464\"\n    - \"other:9464\"\n"));
        assert!(read("monitor.yml").contains("127.0.0.9:9465"));
        std::fs::write(folder.join("targets/ingest.yml"), "- targets: [\"mine:1\"]\n").unwrap();
        prepared_in(dir.path(), Kind::Prometheus, at(&["127.0.0.9:9464"]));
        assert_eq!(read("ingest.yml"), "- targets: [\"mine:1\"]\n");
    }

    #[test]
    fn grafana_finds_its_dashboards_and_its_source_without_a_click() {
        let (_dir, command, folder) = prepared(Kind::Grafana);
        let setting = |name: &str| {
            let found = command.get_envs().find(|(found, _)| *found == name).and_then(|(_, value)| value);
            found.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
        };
        assert_eq!(setting("PROMETHEUS_URL"), "http://127.0.0.1:9090");
        assert_eq!(setting("GF_SERVER_HTTP_ADDR"), "127.0.0.1");
        assert_eq!(setting("IOTCTL_DASHBOARDS"), folder.join("dashboards").display().to_string());
        assert_eq!(std::fs::read_dir(folder.join("dashboards")).unwrap().count(), DASHBOARDS.len());
        assert_eq!(setting("IOTCTL_SQL"), "127.0.0.1:5433");
        assert_eq!(setting("IOTCTL_SENSOR_DASHBOARDS"), folder.join("sensors").display().to_string());
        assert_eq!(std::fs::read_dir(folder.join("sensors")).unwrap().count(), SENSOR_DASHBOARDS.len());
        // Each variable of the files has its value.
        for text in [PROVIDER, DATA_SOURCES, SENSOR_PROVIDER, SENSOR_SOURCE] {
            let values = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            for name in values.filter_map(|line| line.split_once(": $")).map(|(_, name)| name) {
                assert!(!setting(name).is_empty(), "{name}");
            }
        }
        assert!(PROVIDER.contains("$IOTCTL_DASHBOARDS") && DATA_SOURCES.contains("$PROMETHEUS_URL"));
    }
}
