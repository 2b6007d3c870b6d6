//! Precedence, and every error message. Nothing here reads the environment of the process.

use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use tempfile::TempDir;

use super::*;
use crate::config::{Consistency, SaslMechanism};

/// A user with a folder, an environment and a command line.
struct User {
    folder: TempDir,
    surroundings: Surroundings,
    sources: Sources,
}

impl User {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, surroundings: Surroundings::default(), sources: Sources::default() }
    }

    /// Writes a file that is looked for after those written before.
    fn file(mut self, name: &str, text: &str) -> Self {
        self.surroundings.default_files.push(self.write(name, text));
        self
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.surroundings.variables.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, flag: &str, key: &str, value: &str) -> Self {
        self.sources.flags.push((flag.into(), key.into(), value.into()));
        self
    }

    fn option(self, key: &str, value: &str) -> Self {
        self.flag("-O", key, value)
    }

    fn load(self) -> Loaded {
        Loaded::from(&self.sources, self.surroundings).unwrap()
    }

    /// The message of the refusal, with the user's folder left out.
    fn refused(self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        let error = Loaded::from(&self.sources, self.surroundings).unwrap_err();
        error.to_string().replace(&folder, "")
    }
}

fn origin(loaded: &Loaded, key: &str) -> String {
    let setting = loaded.effective.iter().find(|setting| setting.key == key).unwrap();
    let origin = setting.origin.to_string();
    origin.rsplit('/').next().unwrap().to_owned()
}

fn value(loaded: &Loaded, key: &str) -> Option<String> {
    let setting = loaded.effective.iter().find(|setting| setting.key == key)?;
    setting.value.as_ref().map(ToString::to_string)
}

#[test]
fn without_any_source_the_defaults_are_in_force() {
    let loaded = User::new().load();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.effective.iter().all(|setting| setting.origin == Origin::Default));
    assert_eq!(loaded.file, None);
}

#[test]
fn a_flag_beats_a_variable_that_beats_the_file_that_beats_the_default() {
    let file = || User::new().file("iotctl.toml", "[kafka]\ntopic = \"of-file\"\n");
    let loaded = file().load();
    assert_eq!(loaded.config.kafka.topic, "of-file");
    assert_eq!(origin(&loaded, "kafka.topic"), "iotctl.toml, line 2");
    assert_eq!(origin(&loaded, "kafka.group"), "default");

    let loaded = file().variable("IOTCTL_KAFKA_TOPIC", "of-env").load();
    assert_eq!(loaded.config.kafka.topic, "of-env");
    assert_eq!(origin(&loaded, "kafka.topic"), "variable IOTCTL_KAFKA_TOPIC");

    let both = file().variable("IOTCTL_KAFKA_TOPIC", "of-env");
    let loaded = both.flag("--topic", "kafka.topic", "of-flag").load();
    assert_eq!(loaded.config.kafka.topic, "of-flag");
    assert_eq!(origin(&loaded, "kafka.topic"), "flag --topic");
}

#[test]
fn the_last_of_two_flags_wins() {
    let loaded = User::new().flag("--topic", "kafka.topic", "first").option("kafka.topic", "last").load();
    assert_eq!(loaded.config.kafka.topic, "last");
}

#[test]
fn one_file_is_read_the_named_one_before_the_variables_before_the_first_found() {
    let files = || {
        let user = User::new()
            .file("local.toml", "[kafka]\ntopic = \"local\"")
            .file("user.toml", "[kafka]\ntopic = \"user\"\ngroup = \"user\"");
        user.write("named.toml", "[kafka]\ntopic = \"named\"");
        user.write("of-variable.toml", "[kafka]\ntopic = \"of-variable\"");
        user
    };
    let loaded = files().load();
    assert_eq!(
        (loaded.config.kafka.topic.as_str(), loaded.config.kafka.group.as_str()),
        ("local", "iotctl-ingest")
    );

    let mut user = files();
    std::fs::remove_file(&user.surroundings.default_files[0]).unwrap();
    assert_eq!(user.load().config.kafka.topic, "user");

    user = files();
    let path = user.folder.path().join("of-variable.toml");
    user = user.variable("IOTCTL_CONFIG", path.to_str().unwrap());
    user.sources.file = Some(user.folder.path().join("named.toml"));
    let named = user.sources.file.clone();
    let loaded = user.load();
    assert_eq!((loaded.config.kafka.topic.as_str(), loaded.file), ("named", named));

    user = files();
    let path = user.folder.path().join("of-variable.toml");
    assert_eq!(
        user.variable("IOTCTL_CONFIG", path.to_str().unwrap()).load().config.kafka.topic,
        "of-variable"
    );
}

#[test]
fn every_type_of_value_is_read_from_variables() {
    let config = User::new()
        .variable("IOTCTL_CASSANDRA_CONTACT_POINTS", "a:9042, b")
        .variable("IOTCTL_CASSANDRA_WRITE_CONSISTENCY", "quorum")
        .variable("IOTCTL_CASSANDRA_READ_CONSISTENCY", "local-one")
        .variable("IOTCTL_CASSANDRA_TLS_ENABLED", "true")
        .variable("IOTCTL_CASSANDRA_TLS_CA_FILE", "ca.pem")
        .variable("IOTCTL_SCHEMA_DATACENTERS", "dc1=3,dc2=2")
        .variable("IOTCTL_KAFKA_PROPERTIES", "linger.ms=5,client.id=x")
        .variable("IOTCTL_KAFKA_SASL_MECHANISM", "scram_sha_256")
        .variable("IOTCTL_INGEST_LINGER", "1m")
        .variable("IOTCTL_INGEST_BATCH_BYTES", "8KiB")
        .variable("IOTCTL_LOCAL_ADDRESS", "127.0.1.1")
        .variable("IOTCTL_LOCAL_KAFKA_PORT", "19092")
        .variable("IOTCTL_LOG", "debug")
        .variable("PATH", "/bin")
        .load()
        .config;
    assert_eq!(config.cassandra.contact_points, ["a:9042", "b"]);
    assert_eq!(config.cassandra.write_consistency, Consistency::Quorum);
    assert_eq!(config.cassandra.read_consistency, Consistency::LocalOne);
    assert!(config.cassandra.tls.enabled);
    assert_eq!(config.cassandra.tls.ca_file.as_deref(), Some(Path::new("ca.pem")));
    assert_eq!(config.schema.datacenters, [("dc1".to_owned(), 3), ("dc2".to_owned(), 2)].into());
    assert_eq!(config.kafka.properties["linger.ms"], "5");
    assert_eq!(config.kafka.properties["client.id"], "x");
    assert_eq!(config.kafka.sasl_mechanism, SaslMechanism::ScramSha256);
    assert_eq!(config.ingest.linger, Duration::from_secs(60));
    assert_eq!(config.ingest.batch_bytes, ByteSize::kib(8));
    assert_eq!(config.local.address.to_string(), "127.0.1.1");
    assert_eq!(config.local.kafka_port, 19092);
}

#[test]
fn the_ends_of_every_range_make_a_configuration() {
    for key in crate::config::keys::all() {
        let Some((min, max)) = key.kind.bounds() else { continue };
        for end in [min, max] {
            let mut settings = Settings::defaults();
            settings.assign(key.name, Given::Text(end.clone()), Origin::Flag("-O".into())).unwrap();
            assert!(settings.build().is_ok(), "{} = {end}", key.name);
        }
    }
}

#[test]
fn a_map_is_replaced_as_a_whole_and_extended_by_its_entries() {
    let file = || User::new().file("iotctl.toml", "[kafka.properties]\nlinger.ms = 5\nclient.id = \"x\"\n");
    let loaded = file().option("kafka.properties.linger.ms", "7").load();
    assert_eq!(loaded.config.kafka.properties["linger.ms"], "7");
    assert_eq!(loaded.config.kafka.properties["client.id"], "x");
    assert_eq!(origin(&loaded, "kafka.properties.client.id"), "iotctl.toml, line 3");
    assert_eq!(origin(&loaded, "kafka.properties.linger.ms"), "flag -O");

    let replaced = file().variable("IOTCTL_KAFKA_PROPERTIES", "debug=all").load().config.kafka.properties;
    assert_eq!(replaced, [("debug".to_owned(), "all".to_owned())].into());
    assert!(file().option("kafka.properties", "").load().config.kafka.properties.is_empty());
}

#[test]
fn an_empty_value_unsets_an_optional_setting() {
    let file = User::new().file("iotctl.toml", "[cassandra]\nlocal_datacenter = \"dc1\"\n");
    let loaded = file.option("cassandra.local_datacenter", "").load();
    assert_eq!(loaded.config.cassandra.local_datacenter, None);
    assert_eq!(origin(&loaded, "cassandra.local_datacenter"), "flag -O");
}

#[test]
fn passwords_come_from_variables_or_files_and_are_never_shown() {
    let user = User::new().variable("IOTCTL_KAFKA_SASL_PASSWORD", "hunter2");
    let path = user.write("secret", "hunter3\n");
    let loaded = user
        .option("cassandra.username", "ann")
        .option("cassandra.password_file", path.to_str().unwrap())
        .option("kafka.security_protocol", "sasl_ssl")
        .option("kafka.sasl_username", "bob")
        .variable("IOTCTL_KAFKA_PROPERTIES", "ssl.keystore.password=hunter4,client.id=x")
        .load();
    assert_eq!(loaded.config.cassandra.password.as_ref().unwrap().expose(), "hunter3");
    assert_eq!(loaded.config.kafka.sasl_password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(loaded.config.kafka.properties["ssl.keystore.password"], "hunter4");
    for key in ["cassandra.password", "kafka.sasl_password", "kafka.properties.ssl.keystore.password"] {
        assert_eq!(value(&loaded, key).as_deref(), Some("\"<redacted>\""), "{key}");
    }
    assert_eq!(value(&loaded, "kafka.properties.client.id").as_deref(), Some("\"x\""));
    assert_eq!(origin(&loaded, "cassandra.password"), "secret, line 1");

    let table = crate::commands::config::as_table(&loaded.effective).to_string();
    let json = crate::config::show::as_json(&loaded.effective).to_string();
    assert!(table.contains("kafka.sasl_username") && json.contains("kafka.sasl_username"));
    assert!(!table.contains("hunter") && !json.contains("hunter"));
    // Nor by whoever logs it.
    assert!(!format!("{:?}", loaded.effective).contains("hunter"));
}

#[test]
fn the_json_of_show_has_values_in_their_own_types() {
    let json = crate::config::show::as_json(&User::new().option("ingest.batch_rows", "100").load().effective);
    assert_eq!(json["ingest.batch_rows"], serde_json::json!({ "value": 100, "origin": "flag -O" }));
    assert_eq!(json["cassandra.username"], serde_json::json!({ "value": null, "origin": "default" }));
    assert_eq!(json["cassandra.contact_points"]["value"], serde_json::json!(["127.0.0.1:9042"]));
}

#[test]
fn an_unknown_key_is_refused_in_every_source() {
    let hint = "`iotctl config show` lists every key";
    assert_eq!(
        User::new().file("iotctl.toml", "[kafka]\ntopics = \"x\"").refused(),
        format!("unknown key kafka.topics (iotctl.toml, line 2): did you mean kafka.topic? {hint}")
    );
    assert_eq!(
        User::new().option("ingest.batchrows", "5").refused(),
        format!("unknown key ingest.batchrows (flag -O): did you mean ingest.batch_rows? {hint}")
    );
    assert_eq!(
        User::new().option("no.idea.at.all", "5").refused(),
        format!("unknown key no.idea.at.all (flag -O): {hint}")
    );
    assert_eq!(
        User::new().variable("IOTCTL_KAFKA_TOPICS", "x").refused(),
        "unknown variable IOTCTL_KAFKA_TOPICS: did you mean IOTCTL_KAFKA_TOPIC? \
         a setting's variable is IOTCTL_SECTION_KEY, such as IOTCTL_KAFKA_TOPIC"
    );
}

#[test]
fn a_bad_value_is_refused_in_every_source() {
    assert_eq!(
        User::new().file("iotctl.toml", "[ingest]\n\nlinger = 50").refused(),
        "ingest.linger (iotctl.toml, line 3): 50 has no unit (write \"50ms\", \"50s\", \"50m\", \"50h\" or \"50d\")"
    );
    assert_eq!(
        User::new().variable("IOTCTL_INGEST_BATCH_ROWS", "5000").refused(),
        "ingest.batch_rows (variable IOTCTL_INGEST_BATCH_ROWS): 5000 is not a whole number from 1 to 1000"
    );
    assert_eq!(
        User::new().option("cassandra.write_consistency", "strong").refused(),
        "cassandra.write_consistency (flag -O): \"strong\" is not one of ANY, ONE, TWO, THREE, QUORUM, ALL, \
         LOCAL_QUORUM, EACH_QUORUM, LOCAL_ONE"
    );
    assert_eq!(
        User::new().option("schema.ttl", "21y").refused(),
        "schema.ttl (flag -O): \"21y\" is not a duration from 1s to 7300d"
    );
    assert_eq!(
        User::new().option("schema.datacenters", "dc1=0").refused(),
        "schema.datacenters (flag -O): dc1: 0 is not a whole number from 1 to 100"
    );
    assert_eq!(
        User::new().variable("IOTCTL_KAFKA_PROPERTIES", "linger.ms").refused(),
        "kafka.properties (variable IOTCTL_KAFKA_PROPERTIES): a piece between two commas is not name=value \
         (write a=b,c=d; a value with a comma must be in the config file)"
    );
    assert_eq!(
        User::new().file("iotctl.toml", "[kafka]\nproperties = \"a=b\"").refused(),
        "kafka.properties (iotctl.toml, line 2): \"a=b\" is not a table of names and values such as { \"a.b\" = \"c\" }"
    );
}

#[test]
fn a_broken_rule_names_each_key_with_its_source() {
    assert_eq!(
        User::new().option("schema.ttl", "1h").variable("IOTCTL_SCHEMA_BUCKET", "1d").refused(),
        "schema.ttl (flag -O), schema.bucket (variable IOTCTL_SCHEMA_BUCKET): readings would expire before their \
         bucket is complete (set schema.ttl to at least schema.bucket)"
    );
    assert_eq!(
        User::new().file("iotctl.toml", "[kafka.properties]\nacks = 1").refused(),
        "kafka.properties.acks (iotctl.toml, line 2): iotctl sets this itself, because the \
         guarantee to lose no reading depends on it (remove it)"
    );
}

#[test]
fn a_password_on_the_command_line_is_refused_and_not_repeated() {
    let message = User::new().option("cassandra.password", "hunter2").refused();
    assert_eq!(
        message,
        "cassandra.password (flag -O): command lines are visible to every user of the machine \
         (set IOTCTL_CASSANDRA_PASSWORD instead, or put it into a file)"
    );
    let message = User::new().option("kafka.properties.ssl.key.pem", "hunter2").refused();
    assert!(message.contains("IOTCTL_KAFKA_PROPERTIES") && !message.contains("hunter2"), "{message}");
    // Unsetting one is harmless.
    assert_eq!(User::new().option("cassandra.password", "").load().config.cassandra.password, None);
}

#[test]
fn a_password_file_that_cannot_be_read_is_refused() {
    let user = User::new().option("cassandra.username", "ann");
    let path = user.folder.path().join("nowhere");
    let message = user.option("cassandra.password_file", path.to_str().unwrap()).refused();
    assert_eq!(
        message,
        "cassandra.password_file (flag -O): cannot read nowhere: it does not exist (its first line must be the password)"
    );
}

#[test]
fn a_named_file_must_exist_and_be_readable() {
    let mut user = User::new();
    user.sources.file = Some(user.folder.path().join("nowhere.toml"));
    assert_eq!(
        user.refused(),
        "config file nowhere.toml (named by --config) does not exist (`iotctl config init nowhere.toml` writes one)"
    );
    let message = User::new().variable("IOTCTL_CONFIG", "/nowhere/x.toml").refused();
    assert!(
        message.starts_with("config file /nowhere/x.toml (named by variable IOTCTL_CONFIG) does not"),
        "{message}"
    );

    let mut user = User::new();
    std::fs::create_dir(user.folder.path().join("folder")).unwrap();
    user.sources.file = Some(user.folder.path().join("folder"));
    let message = user.refused();
    assert!(
        message.starts_with("cannot read config file folder: ") && message.ends_with("--config)"),
        "{message}"
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused() {
    let message = User::new().file("iotctl.toml", "[kafka]\ntopic = readings").refused();
    assert!(message.starts_with("iotctl.toml, line 2: this is not TOML: "), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    let mut user = User::new();
    user.surroundings.variables.push(("IOTCTL_KAFKA_TOPIC".into(), OsString::from_vec(vec![0xff])));
    assert_eq!(
        user.refused(),
        "variable IOTCTL_KAFKA_TOPIC is not UTF-8 (set it to plain text, or unset it)"
    );
}
