//! The promise under attack: a load runs through a real Cassandra of three nodes and a real Kafka, something is
//! killed, frozen or flooded, and at the end `iotctl audit` compares the producer's ledger with what is stored.
//!
//! A short set runs in `cargo test`; `cargo test --test faults -- --include-ignored` runs all, at full length. Each
//! test prints what it measured; docs/reliability.md holds the table.

#![allow(unreachable_pub, reason = "a test binary exports nothing: `pub` means shared between its modules")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

mod bench;

mod brokers;
mod ingests;
mod messages;
mod nodes;
mod remote;
mod rollups;
#[path = "../support/mod.rs"]
mod support;

/// The servers, from before the first test until after the last.
static SERVERS: std::sync::OnceLock<bench::Servers> = std::sync::OnceLock::new();

pub(crate) fn servers() -> &'static bench::Servers {
    SERVERS.get().expect("main starts them before the first test")
}

type Test = fn() -> anyhow::Result<()>;

/// Names functions as tests, `module::function`; the long ones run only when asked for.
macro_rules! faults {
    (short: [$($short:ident),* $(,)?], long: [$($long:ident),* $(,)?]) => {
        pub fn trials() -> Vec<(String, bool, crate::Test)> {
            let module = module_path!().rsplit("::").next().unwrap_or_default();
            vec![
                $((format!("{module}::{}", stringify!($short)), false, $short as crate::Test),)*
                $((format!("{module}::{}", stringify!($long)), true, $long as crate::Test),)*
            ]
        }
    };
}
pub(crate) use faults;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One fault at a time: they share the servers.
    arguments.test_threads = Some(1);
    let trials: Vec<Trial> = [
        ingests::trials(),
        messages::trials(),
        nodes::trials(),
        remote::trials(),
        brokers::trials(),
        rollups::trials(),
    ]
    .into_iter()
    .flatten()
    .map(|(name, is_long, test)| {
        // A test that failed may have left a server down.
        let whole = move || servers().up().and_then(|()| test());
        let run = move || whole().map_err(|error| Failed::from(format!("{error:#}")));
        Trial::test(name, run).with_ignored_flag(is_long)
    })
    .collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    match bench::Servers::start() {
        Ok(servers) => SERVERS.get_or_init(|| servers),
        Err(error) => {
            support::complain(&format!("cannot start the servers: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = servers().stop() {
        support::complain(&format!("cannot stop the servers: {error:#}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
