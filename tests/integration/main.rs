//! The tests that matter: the real binary against a real Cassandra and a real Kafka.
//!
//! The servers are started once, through `iotctl up`, on loopback addresses and ports of the tests' own, and stopped
//! at the end (IOTCTL_TEST_KEEP=1 leaves them up for the next run). Each test has its own keyspace and topic.

#![allow(unreachable_pub, reason = "a test binary exports nothing: `pub` means shared between its modules")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod alert_delivery;
mod anomalies;
mod answers;
mod audit;
#[allow(dead_code, reason = "the tests of security use all of it")]
#[path = "../security/certificates.rs"]
mod certificates;
mod commands;
mod completions;
mod dashboard;
mod dead_letters;
mod delivery;
mod destination;
mod detection;
mod export;
mod files;
mod forecast;
mod health;
mod import;
mod login;
mod losses;
mod mapped;
mod mapping;
mod merged;
mod moved;
mod mqtt;
mod names;
mod numbers;
mod offsets;
mod old_tables;
mod plot;
mod purge;
mod report;
mod rollups;
mod round_trip;
mod schema;
mod servers;
mod simulation;
mod sql;
#[cfg(feature = "sql")]
mod sql_prompt;
#[cfg(feature = "sql")]
mod sql_rollups;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod topics;
mod tutorial;
mod zones;

pub(crate) use support::trials;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests wait more than they compute: with two at once, half of two cores was idle.
    arguments.test_threads = arguments.test_threads.or(Some(3));
    let trials: Vec<Trial> = [
        purge::trials(),
        rollups::trials(),
        round_trip::trials(),
        alert_delivery::trials(),
        anomalies::trials(),
        answers::trials(),
        audit::trials(),
        commands::trials(),
        completions::trials(),
        dashboard::trials(),
        dead_letters::trials(),
        delivery::trials(),
        destination::trials(),
        detection::trials(),
        forecast::trials(),
        export::trials(),
        files::trials(),
        health::trials(),
        import::trials(),
        login::trials(),
        losses::trials(),
        mapped::trials(),
        mapping::trials(),
        mqtt::trials(),
        merged::trials(),
        moved::trials(),
        names::trials(),
        numbers::trials(),
        offsets::trials(),
        old_tables::trials(),
        plot::trials(),
        report::trials(),
        schema::trials(),
        servers::trials(),
        simulation::trials(),
        sql::trials(),
        status::trials(),
        topics::trials(),
        tutorial::trials(),
        zones::trials(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let servers = match support::Servers::start() {
        Ok(servers) => servers,
        Err(error) => {
            support::complain(&format!("cannot start the test servers: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = servers.stop() {
        support::complain(&format!("cannot stop the test servers: {error:#}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
