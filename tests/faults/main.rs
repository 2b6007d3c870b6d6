//! The promise under attack: a load runs through a real Cassandra of three nodes and a real Kafka, something is
//! killed, frozen or flooded, and at the end `iotctl audit` compares the producer's ledger with what is stored.
//!
//! The same load runs through three brokers in [`three_brokers`], on a cluster of its own.
//!
//! A short set runs in `cargo test`; `cargo test --test faults -- --include-ignored` runs all, at full length. Each
//! test prints what it measured; docs/reliability.md holds the table.

#![allow(unreachable_pub, reason = "a test binary exports nothing: `pub` means shared between its modules")]

use std::process::ExitCode;
use std::sync::OnceLock;

use bench::Servers;
use libtest_mimic::{Arguments, Failed, Trial};

mod bench;

mod brokers;
mod ingests;
mod membership;
mod messages;
mod nodes;
mod remote;
mod rollups;
#[path = "../support/mod.rs"]
mod support;
mod three_brokers;

/// The servers, from the first test that needs them until after the last.
static SERVERS: OnceLock<Servers> = OnceLock::new();
/// As [`SERVERS`].
static BROKERS: OnceLock<Servers> = OnceLock::new();

pub(crate) fn servers() -> &'static Servers {
    SERVERS.get_or_init(|| Servers::with_three_nodes().expect("the servers start"))
}

/// As [`SERVERS`].
static MEMBERS: OnceLock<Servers> = OnceLock::new();

/// Two nodes.
pub(crate) fn members() -> &'static Servers {
    MEMBERS.get_or_init(|| Servers::with_two_nodes().expect("the servers start"))
}

/// A node and three brokers.
pub(crate) fn broker_servers() -> &'static Servers {
    BROKERS.get_or_init(|| Servers::with_three_brokers().expect("the servers start"))
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
    let on = |servers: fn() -> &'static Servers, trials: Vec<(String, bool, Test)>| {
        trials.into_iter().map(move |(name, is_long, test)| {
            // A test that failed may have left a server down.
            let whole = move || servers().up().and_then(|()| test());
            let run = move || whole().map_err(|error| Failed::from(format!("{error:#}")));
            Trial::test(name, run).with_ignored_flag(is_long)
        })
    };
    let with_three_nodes = [
        ingests::trials(),
        messages::trials(),
        nodes::trials(),
        remote::trials(),
        brokers::trials(),
        rollups::trials(),
    ];
    let trials = on(servers, with_three_nodes.into_iter().flatten().collect())
        .chain(on(broker_servers, three_brokers::trials()))
        .chain(on(members, membership::trials()))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    for servers in [&SERVERS, &BROKERS, &MEMBERS].into_iter().filter_map(OnceLock::get) {
        if let Err(error) = servers.stop() {
            support::complain(&format!("cannot stop the servers: {error:#}"));
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}
