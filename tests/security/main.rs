//! The real binary against a real Cassandra and a real Kafka that demand TLS and passwords and grant permissions.
//!
//! The servers are started once, on an address of their own (127.0.47.1), and stopped at the end. What each role may
//! do is what docs/security.md grants: its statements and commands are the ones that are run.

#![allow(unreachable_pub, reason = "a test binary exports nothing: `pub` means shared between its modules")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod certificates;
mod servers;

mod commands;
mod iam;
mod names;
mod refusals;
mod renewed;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod withdrawn;

pub(crate) use support::trials;

/// The servers, from before the first test until after the last.
static SERVERS: std::sync::OnceLock<servers::Servers> = std::sync::OnceLock::new();

pub(crate) fn servers() -> &'static servers::Servers {
    SERVERS.get().expect("main starts them before the first test")
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of them wait: for a server, or for the patience of an ingest to end.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let trials: Vec<Trial> = [
        // The longest first.
        withdrawn::trials(),
        renewed::trials(),
        commands::trials(),
        names::trials(),
        refusals::trials(),
        secrets::trials(),
        tokens::trials(),
        iam::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    match servers::Servers::start() {
        Ok(servers) => SERVERS.get_or_init(|| servers),
        Err(error) => {
            support::complain(&format!("cannot start the secure servers: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = servers().stop() {
        support::complain(&format!("cannot stop the secure servers: {error:#}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
