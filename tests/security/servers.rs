//! A Cassandra and a Kafka as a careful person runs them: TLS on every listener, passwords, permissions. They are
//! those of `iotctl up` with other configuration files, on an address of their own, and start from nothing each time.

use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytesize::ByteSize;
use iotctl::cassandra::Session;
use iotctl::config::{
    CassandraConfig, CassandraTlsConfig, KafkaConfig, LocalConfig, Secret, SecurityProtocol,
};
use iotctl::kafka::topics;
use iotctl::output::{ColorChoice, Output};
use iotctl::servers::local::cassandra::Nodes;
use iotctl::servers::local::cluster::{Cluster, Server};
use iotctl::servers::local::java::{self, Java};
use iotctl::servers::local::kafka::Broker;
use iotctl::servers::local::layout::{Layout, cache_dir};
use iotctl::servers::local::process::{self, Process};
use iotctl::servers::local::progress::ProgressLines;
use iotctl::servers::local::{KafkaMode, Kind, jars};
use iotctl::shutdown::Shutdown;

use crate::certificates::Certificates;
use crate::support::{Lab, Program, WITHOUT_FLUSHES};
use crate::tokens::{AUDIENCE, Signer};

pub const ADDRESS: &str = "127.0.47.1";
pub const CASSANDRA: &str = "127.0.47.1:19442";
/// SASL_SSL.
pub const KAFKA: &str = "127.0.47.1:19492";
/// SASL_SSL, with the expired certificate.
pub const KAFKA_EXPIRED: &str = "127.0.47.1:19495";
/// SASL_SSL, where a client has to log in again every few seconds.
pub const KAFKA_STRICT: &str = "127.0.47.1:19496";
/// SASL_SSL by tokens (OAUTHBEARER), with a new login every few seconds.
pub const KAFKA_TOKENS: &str = "127.0.47.1:19497";
/// SSL: who one is, one's own certificate says.
pub const KAFKA_MUTUAL: &str = "127.0.47.1:19494";

/// The superuser of both servers, and the roles of docs/security.md.
pub const ADMIN: &str = "test_admin";
pub const SCHEMA: &str = "iot_schema";
pub const INGEST: &str = "iot_ingest";
pub const READER: &str = "iot_reader";
pub const SENDER: &str = "iot_sender";
pub const MONITOR: &str = "iot_monitor";
pub const ROLES: [&str; 6] = [ADMIN, SCHEMA, INGEST, READER, SENDER, MONITOR];

/// Keyspaces and topics of the tests begin with it; Kafka's permissions are given to the prefix.
const PREFIX: &str = "sec_";
/// Dead-letter topics and topics of alerts have prefixes of their own, so that the permissions on them are told apart.
const DEAD_LETTER_PREFIX: &str = "dead_";
const ALERTS_PREFIX: &str = "alert_";
const BOOT_DEADLINE: Duration = Duration::from_secs(15 * 60);
const DOCS: &str = include_str!("../../docs/security.md");

pub struct Servers {
    pub certificates: Certificates,
    pub signer: Signer,
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
    java: Java,
    admin_jars: PathBuf,
}

impl Servers {
    /// Starts both and makes the roles; about half a minute.
    pub fn start() -> anyhow::Result<Self> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("secure");
        // What a killed run left.
        down(&folder)?;
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700))?;
        let certificates = Certificates::make(&folder.join("certificates"), ADDRESS)?;
        let signer = Signer::make(&folder)?;
        for role in ROLES {
            for system in ["cassandra", "kafka"] {
                write_password(&folder, system, role, &random_password())?;
            }
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let java = runtime.block_on(java::find(&java::Places::of_this_machine()))?;
        // The tools that administer Kafka lie in the jars of the older version and serve the newer one, too.
        let admin_jars = runtime.block_on(fetch(&java, &jars::KAFKA_ZOOKEEPER))?;
        let servers = Self { certificates, signer, folder, runtime, java, admin_jars };
        match servers.runtime.block_on(servers.boot()).and_then(|()| servers.grant_topics()) {
            Ok(()) => Ok(servers),
            Err(error) => {
                let _ = servers.stop();
                Err(error)
            }
        }
    }

    pub fn stop(&self) -> anyhow::Result<()> {
        // To look at them by hand; the next run starts from nothing all the same.
        if std::env::var_os("IOTCTL_TEST_KEEP").is_some() {
            return Ok(());
        }
        down(&self.folder)?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    async fn boot(&self) -> anyhow::Result<()> {
        let config = LocalConfig {
            data_dir: Some(self.folder.join("servers")),
            address: ADDRESS.parse()?,
            cassandra_port: CASSANDRA.parse::<SocketAddr>()?.port(),
            cassandra_storage_port: 17700,
            cassandra_jmx_port: 17880,
            kafka_port: KAFKA.parse::<SocketAddr>()?.port(),
            kafka_controller_port: 19493,
            cassandra_jvm_options: vec![WITHOUT_FLUSHES.into()],
            ..Default::default()
        };
        let layout = Layout::of(&config)?;
        layout.create()?;
        let cluster = Cluster { is_complete: true, ..Cluster::fresh(1, KafkaMode::Kraft, config.address) };
        cluster.save(&layout)?;
        let servers = cluster.servers(&config)?;
        let server = |kind: Kind| servers.iter().find(|server| server.kind == kind).context("a server");
        let cassandra_jars = fetch(&self.java, &jars::CASSANDRA).await?;
        let kafka_jars = fetch(&self.java, &jars::KAFKA).await?;
        let nodes = Nodes {
            config: &config,
            layout: &layout,
            java: &self.java,
            jars: &cassandra_jars,
            heap: ByteSize::mib(384),
            seeds: vec![(0, config.address.into())],
            replaced: None,
            agent: None,
        };
        let broker = Broker {
            config: &config,
            layout: &layout,
            java: &self.java,
            jars: &kafka_jars,
            cluster: &cluster,
            heap: ByteSize::mib(256),
            agent: None,
        };
        let cassandra = self.start_cassandra(&layout, &nodes, server(Kind::Cassandra)?);
        let kafka = self.start_kafka(&layout, &broker, server(Kind::Kafka)?);
        tokio::try_join!(cassandra, kafka)?;
        Ok(())
    }

    async fn start_cassandra(
        &self,
        layout: &Layout,
        nodes: &Nodes<'_>,
        server: &Server,
    ) -> anyhow::Result<()> {
        let mut command = nodes.prepare(server)?;
        let yaml = layout.server_dir(&server.name).join("conf/cassandra.yaml");
        edit(&yaml, |text| {
            let text = text
                .replace("AllowAllAuthenticator", "PasswordAuthenticator")
                .replace("AllowAllAuthorizer", "CassandraAuthorizer");
            format!(
                "{text}
permissions_validity: 500ms
roles_validity: 500ms
credentials_validity: 500ms
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: true
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: {}
  keystore_password: \"\"
  truststore: {}
",
                self.certificates.server.both.display(),
                self.certificates.ca.display()
            )
        })?;
        // The first superuser is there at once, and passwords are checked quickly: each is random here.
        command.env(
            "JAVA_TOOL_OPTIONS",
            "-Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.auth_bcrypt_gensalt_log2_rounds=4",
        );
        let (process, _child) =
            process::spawn(layout, &server.name, server.kind, server.address, &mut command)?;
        let first = self.cassandra_config_of("cassandra", "cassandra");
        let session = wait_for(&process, async || Ok(Session::connect(&first).await?)).await?;
        let create = |role: &str, options: &str| {
            format!(
                "CREATE ROLE {role} WITH LOGIN = true AND PASSWORD = '{}'{options}",
                self.password("cassandra", role)
            )
        };
        session.query(&create(ADMIN, " AND SUPERUSER = true")).await?;
        for role in [SCHEMA, INGEST, READER, MONITOR] {
            session.query(&create(role, "")).await?;
        }
        // The password that everybody knows is of no use any more.
        let admin = self.cassandra_config_of(ADMIN, &self.password("cassandra", ADMIN));
        Session::connect(&admin).await?.query("DROP ROLE cassandra").await?;
        Ok(())
    }

    async fn start_kafka(&self, layout: &Layout, broker: &Broker<'_>, server: &Server) -> anyhow::Result<()> {
        let mut command = broker.prepare(server).await?;
        let dir = layout.server_dir(&server.name);
        let properties = dir.join("server.properties");
        let kafka_port = broker.config.kafka_port;
        edit(&properties, |text| {
            let kept = text.lines().filter(|line| {
                !line.starts_with("listener") && !line.starts_with("advertised") && !line.is_empty()
            });
            let kept: Vec<_> = kept.collect();
            let listeners = format!(
                "SASL_SSL://{ADDRESS}:{kafka_port},EXPIRED://{KAFKA_EXPIRED},STRICT://{KAFKA_STRICT},TOKENS://{KAFKA_TOKENS},MUTUAL://{KAFKA_MUTUAL},CONTROLLER://{ADDRESS}:{}",
                broker.config.kafka_controller_port
            );
            format!(
                "{}
listeners={listeners}
advertised.listeners={listeners}
listener.security.protocol.map=SASL_SSL:SASL_SSL,EXPIRED:SASL_SSL,STRICT:SASL_SSL,TOKENS:SASL_SSL,MUTUAL:SSL,CONTROLLER:SSL
inter.broker.listener.name=MUTUAL
listener.name.mutual.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={}
ssl.truststore.type=PEM
ssl.truststore.location={}
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={}
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={SCRAM} required;
listener.name.expired.scram-sha-512.sasl.jaas.config={SCRAM} required;
listener.name.strict.scram-sha-512.sasl.jaas.config={SCRAM} required;
listener.name.strict.connections.max.reauth.ms=4000
listener.name.tokens.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.tokens.oauthbearer.sasl.jaas.config={TOKENS} required;
listener.name.tokens.oauthbearer.sasl.server.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwt.validator.class=org.apache.kafka.common.security.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url=file://{}
sasl.oauthbearer.expected.audience={AUDIENCE}
listener.name.tokens.connections.max.reauth.ms=4000
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:CN=server;User:{ADMIN}
",
                kept.join("\n"),
                self.certificates.server.both.display(),
                self.certificates.ca.display(),
                self.certificates.expired.both.display(),
                self.signer.jwks.display()
            )
        })?;
        // Settings of the whole broker: given for the listener alone, Kafka 4.1.1 took a token that an unknown key signed.
        // Kafka reads keys only from where its JVM is told to.
        let allowed =
            format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}", self.signer.jwks.display());
        command.env("JAVA_TOOL_OPTIONS", allowed);
        // The first users have to be there before anybody can log in to make them.
        std::fs::remove_dir_all(dir.join("data"))?;
        let mut format = self.java.command(broker.jars, vec!["-Xmx128m".into()], "kafka.tools.StorageTool");
        format.args(["format", "--standalone", "--cluster-id", "c2VjdXJpdHktdGVzdHM0MA", "--config"]);
        format.arg(&properties);
        for role in ROLES {
            let password = self.password("kafka", role);
            format.arg("--add-scram").arg(format!("SCRAM-SHA-512=[name={role},password={password}]"));
        }
        run(format)?;
        let (process, _child) =
            process::spawn(layout, &server.name, server.kind, server.address, &mut command)?;
        let admin = self.kafka_config(ADMIN);
        wait_for(&process, async || {
            // The log is spared a client's complaints while there is nobody to talk to.
            tokio::net::TcpStream::connect(server.address).await?;
            ensure!(topics::brokers(&admin).await? > 0, "it has not registered");
            Ok(())
        })
        .await
    }

    /// Runs the permissions of docs/security.md, on the prefix of the tests' topics and groups.
    fn grant_topics(&self) -> anyhow::Result<()> {
        let commands = docs_commands("kafka-acls.sh")?;
        std::thread::scope(|scope| {
            let runs: Vec<_> = commands
                .into_iter()
                .map(|arguments| scope.spawn(move || self.kafka_acls(&arguments)))
                .collect();
            runs.into_iter().try_for_each(|run| run.join().expect("no panic"))
        })
    }

    fn kafka_acls(&self, arguments: &[String]) -> anyhow::Result<()> {
        let renamed = arguments.iter().map(|argument| match argument.as_str() {
            "iot-analytics-topic" | "iotctl-ingest" => PREFIX.to_owned(),
            "iot-analytics-topic.dlq" => DEAD_LETTER_PREFIX.to_owned(),
            "iot-analytics-alerts" => ALERTS_PREFIX.to_owned(),
            _ => argument.clone(),
        });
        let arguments: Vec<_> =
            renamed.chain(["--resource-pattern-type".into(), "prefixed".into()]).collect();
        self.kafka_tool("kafka.admin.AclCommand", &arguments)
    }

    /// Runs one of Kafka's own tools as the superuser.
    pub fn kafka_tool(&self, main: &str, arguments: &[String]) -> anyhow::Result<()> {
        let properties = self.folder.join("admin.properties");
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nsasl.jaas.config={SCRAM} required username=\"{ADMIN}\" password=\"{}\";\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
            self.password("kafka", ADMIN),
            self.certificates.ca.display()
        );
        std::fs::write(&properties, text)?;
        let mut command = self.java.command(&self.admin_jars, vec!["-Xmx128m".into()], main);
        command.args(["--bootstrap-server", KAFKA, "--command-config"]).arg(properties).args(arguments);
        run(command)
    }

    /// The password of a role, random and of this run alone.
    pub fn password(&self, system: &str, role: &str) -> String {
        std::fs::read_to_string(self.password_file(system, role)).expect("written when the servers started")
    }

    pub fn password_file(&self, system: &str, role: &str) -> PathBuf {
        password_file(&self.folder, system, role)
    }

    /// Every password there is.
    pub fn passwords(&self) -> Vec<String> {
        let of = |system| ROLES.map(|role| self.password(system, role));
        [of("cassandra"), of("kafka")].concat()
    }

    /// A new random password in a file of its own.
    pub fn new_password(&self, name: &str) -> anyhow::Result<(String, PathBuf)> {
        let password = random_password();
        write_password(&self.folder, "other", name, &password)?;
        Ok((password, password_file(&self.folder, "other", name)))
    }

    fn cassandra_config_of(&self, username: &str, password: &str) -> CassandraConfig {
        let certificates = &self.certificates;
        CassandraConfig {
            contact_points: vec![CASSANDRA.into()],
            username: Some(username.into()),
            password: Some(Secret::new(password)),
            tls: CassandraTlsConfig {
                enabled: true,
                ca_file: Some(certificates.ca.clone()),
                cert_file: Some(certificates.client.certificate.clone()),
                key_file: Some(certificates.client.key.clone()),
                server_name: None,
            },
            ..Default::default()
        }
    }

    pub fn kafka_config(&self, role: &str) -> KafkaConfig {
        KafkaConfig {
            bootstrap_servers: vec![KAFKA.into()],
            security_protocol: SecurityProtocol::SaslSsl,
            sasl_username: Some(role.into()),
            sasl_password: Some(Secret::new(self.password("kafka", role))),
            ssl_ca_location: Some(self.certificates.ca.clone()),
            ..Default::default()
        }
    }

    /// Runs statements as the superuser.
    pub fn cql(&self, statements: &[String]) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            let admin = self.cassandra_config_of(ADMIN, &self.password("cassandra", ADMIN));
            let session = Session::connect(&admin).await?;
            for statement in statements {
                session.query(statement).await.with_context(|| statement.clone())?;
            }
            Ok(())
        })
    }

    /// The one number that a statement gives, asked by the superuser.
    pub fn count(&self, statement: &str) -> anyhow::Result<i64> {
        self.runtime.block_on(async {
            let admin = self.cassandra_config_of(ADMIN, &self.password("cassandra", ADMIN));
            let rows = Session::connect(&admin).await?.query(statement).await?;
            Ok(rows.first().context("a count has a row")?.get(0)?)
        })
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A task that runs until the servers are stopped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// A keyspace and a topic of one's own with schema and permissions as docs/security.md gives them, and a lab in
    /// which the commands run as each of the roles.
    pub fn place(&self, name: &str) -> anyhow::Result<Place<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}_{name}", COUNT.fetch_add(1, Ordering::Relaxed));
        let place = Place { servers: self, name };
        place.grant("CREATE ON ALL KEYSPACES")?;
        place.lab(SCHEMA)?.ok(&["-q", "schema", "apply"])?;
        place.grant("")?;
        Ok(place)
    }
}

/// A keyspace and a topic on the secure servers.
pub struct Place<'a> {
    pub servers: &'a Servers,
    /// Of keyspace, topic and group.
    pub name: String,
}

impl Place<'_> {
    /// Runs the GRANTs of docs/security.md that have `part` in them.
    pub fn grant(&self, part: &str) -> anyhow::Result<()> {
        let grants = docs_grants();
        let grants: Vec<_> = grants
            .into_iter()
            .filter(|grant| grant.contains(part))
            .map(|grant| grant.replace("sensor_data_schema", &self.name))
            .collect();
        ensure!(!grants.is_empty(), "docs/security.md has no GRANT with {part:?}");
        self.servers.cql(&grants)
    }

    /// Readings in Cassandra.
    pub fn stored(&self) -> anyhow::Result<i64> {
        self.servers.count(&format!("SELECT count(*) FROM {}.iot_sensor_metrics", self.name))
    }

    pub fn dead_letter_topic(&self) -> String {
        format!("{DEAD_LETTER_PREFIX}{}", self.name)
    }

    /// The commands as one of the roles runs them: the passwords lie in files.
    pub fn lab(&self, role: &str) -> anyhow::Result<Lab> {
        let mut lab = Lab::bare("secure")?;
        lab.name.clone_from(&self.name);
        let certificates = &self.servers.certificates;
        let path = |path: &Path| path.display().to_string();
        let password = |system| path(&self.servers.password_file(system, role));
        let settings: [(&str, String); 23] = [
            ("LOCAL_ADDRESS", ADDRESS.into()),
            ("LOCAL_DATA_DIR", path(&self.servers.folder.join("servers"))),
            ("LOCAL_CASSANDRA_PORT", "19442".into()),
            ("LOCAL_KAFKA_PORT", "19492".into()),
            ("CASSANDRA_CONTACT_POINTS", CASSANDRA.into()),
            ("CASSANDRA_KEYSPACE", self.name.clone()),
            ("CASSANDRA_USERNAME", role.into()),
            ("CASSANDRA_PASSWORD_FILE", password("cassandra")),
            ("CASSANDRA_TLS_ENABLED", "true".into()),
            ("CASSANDRA_TLS_CA_FILE", path(&certificates.ca)),
            ("CASSANDRA_TLS_CERT_FILE", path(&certificates.client.certificate)),
            ("CASSANDRA_TLS_KEY_FILE", path(&certificates.client.key)),
            ("KAFKA_BOOTSTRAP_SERVERS", KAFKA.into()),
            ("KAFKA_TOPIC", self.name.clone()),
            ("KAFKA_DEAD_LETTER_TOPIC", self.dead_letter_topic()),
            ("KAFKA_ALERTS_TOPIC", format!("{ALERTS_PREFIX}{}", self.name)),
            ("KAFKA_GROUP", self.name.clone()),
            ("KAFKA_PARTITIONS", "2".into()),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL".into()),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512".into()),
            ("KAFKA_SASL_USERNAME", role.into()),
            ("KAFKA_SASL_PASSWORD_FILE", password("kafka")),
            ("KAFKA_SSL_CA_LOCATION", path(&certificates.ca)),
        ];
        for (key, value) in settings {
            lab.set(&format!("IOTCTL_{key}"), &value);
        }
        Ok(lab)
    }
}

const TOKENS: &str = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

/// The GRANT statements of docs/security.md.
fn docs_grants() -> Vec<String> {
    DOCS.lines()
        .filter(|line| line.starts_with("GRANT "))
        .map(|line| line.trim_end().trim_end_matches(';').to_owned())
        .collect()
}

/// The arguments of each call of a tool in docs/security.md, after those that say where and as whom.
fn docs_commands(tool: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let text = DOCS.replace("\\\n", " ");
    let calls = text.lines().filter_map(|line| line.strip_prefix(&format!("$ {tool} $ADMIN ")));
    let calls: Vec<Vec<String>> =
        calls.map(|call| call.split_whitespace().map(str::to_owned).collect()).collect();
    ensure!(!calls.is_empty(), "docs/security.md has no call of {tool}");
    Ok(calls)
}

async fn fetch(java: &Java, jars: &jars::Jars) -> anyhow::Result<PathBuf> {
    let cache = cache_dir(&LocalConfig::default())?;
    let board = ProgressLines::new(Output::new(ColorChoice::Never, true));
    jars.fetch(&cache, java, &board, &Shutdown::new()).await
}

/// Tries until it works, as long as the server lives.
async fn wait_for<T>(process: &Process, attempt: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if !process.is_alive() || started.elapsed() > BOOT_DEADLINE => {
                let log = std::fs::read_to_string(&process.log).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(30).collect();
                let last: Vec<_> = last.into_iter().rev().collect();
                bail!("{} does not come up: {error:#}; its last lines:\n{}", process.name, last.join("\n"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(300)).await,
        }
    }
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)?;
    Ok(std::fs::write(file, change(text))?)
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success() && !text.contains("Error while executing"), "{text}");
    Ok(())
}

/// Ends what runs on the folder and deletes its data.
fn down(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("servers");
    if !data.exists() {
        return Ok(());
    }
    let program = Program::new([("IOTCTL_LOCAL_DATA_DIR", data.display().to_string())]);
    program.purge()
}

fn random_password() -> String {
    format!("pw{}", uuid::Uuid::new_v4().simple())
}

fn password_file(folder: &Path, system: &str, role: &str) -> PathBuf {
    folder.join(format!("{system}-{role}.password"))
}

fn write_password(folder: &Path, system: &str, role: &str, password: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let path = password_file(folder, system, role);
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(password.as_bytes())?)
}
