//! The servers that the integration tests share, by `iotctl up`.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, ensure};

use super::Program;

pub const CASSANDRA: &str = "127.0.42.1:19042";
pub const KAFKA: &str = "127.0.42.1:19192";

/// A table that is made or dropped costs a dozen flushes of the schema, a second or more where the disk is busy, and each test makes
/// its own tables. Only a server that is killed would need them: where one is, the test has servers of its own.
pub const WITHOUT_FLUSHES: &str = "-Dcassandra.test.flush_local_schema_changes=false";

/// Where nothing listens.
pub const NOBODY: &str = "127.0.42.99:1";

/// The program with the settings of the tests' own servers.
pub(super) fn program() -> Program {
    // Several checkouts can share one set of servers, which IOTCTL_TEST_KEEP leaves up.
    let data = match std::env::var_os("IOTCTL_TEST_SERVERS") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("servers"),
    };
    Program::new([
        ("IOTCTL_LOCAL_ADDRESS", "127.0.42.1"),
        ("IOTCTL_LOCAL_DATA_DIR", data.to_str().expect("a target directory with a UTF-8 path")),
        ("IOTCTL_LOCAL_CASSANDRA_PORT", "19042"),
        ("IOTCTL_LOCAL_CASSANDRA_STORAGE_PORT", "17100"),
        ("IOTCTL_LOCAL_CASSANDRA_JMX_PORT", "17299"),
        ("IOTCTL_LOCAL_KAFKA_PORT", "19192"),
        ("IOTCTL_LOCAL_KAFKA_CONTROLLER_PORT", "19193"),
        ("IOTCTL_LOCAL_ZOOKEEPER_PORT", "12181"),
        ("IOTCTL_LOCAL_CASSANDRA_JVM_OPTIONS", WITHOUT_FLUSHES),
        // The machine's free disk is not under test.
        ("IOTCTL_LOCAL_LEAST_FREE_DISK", "1MiB"),
    ])
}

/// The servers, from before the first test until after the last.
pub struct Servers(Program);

impl Servers {
    pub fn start() -> anyhow::Result<Self> {
        let program = program();
        // A run that was killed leaves its tables, hundreds of which fill Cassandra's heap.
        if std::env::var_os("IOTCTL_TEST_KEEP").is_none() {
            program.purge()?;
        }
        let up = program.command("up").stdout(Stdio::null()).status().context("cannot run `iotctl up`")?;
        ensure!(up.success(), "`iotctl up` failed");
        Ok(Self(program))
    }

    pub fn stop(self) -> anyhow::Result<()> {
        if std::env::var_os("IOTCTL_TEST_KEEP").is_some() {
            return Ok(());
        }
        // A test run starts from nothing.
        self.0.purge()
    }
}
