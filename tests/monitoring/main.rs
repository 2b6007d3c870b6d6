//! Monitoring as its users have it: real servers with `up --monitoring`, a load, `iotctl monitor`, and a real Prometheus
//! that scrapes them all. Every panel of every dashboard and every rule must have data; the alerts must fire in the fault
//! they are for. Needs Prometheus with promtool and node_exporter: where one is missing, this fails and says so.

#![allow(unreachable_pub, reason = "a test binary exports nothing: `pub` means shared between its modules")]

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

mod alerts;
mod bench;
mod files;
mod panels;
mod prometheus;
#[path = "../support/mod.rs"]
mod support;

pub(crate) use support::trials;

/// The servers and what watches them, from before the first test until after the last.
static BENCH: std::sync::OnceLock<bench::Bench> = std::sync::OnceLock::new();

pub(crate) fn bench() -> &'static bench::Bench {
    BENCH.get().expect("main starts it before the first test")
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // In this order: what is whole is looked at before something is broken.
    arguments.test_threads = Some(1);
    let trials: Vec<Trial> =
        [files::trials(), panels::trials(), alerts::trials()].into_iter().flatten().collect();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let missing: Vec<_> =
        bench::MISSING_REMEDY.iter().filter(|(name, _)| !bench::is_installed(name)).collect();
    for (name, package) in &missing {
        support::complain(&format!("missing: {name} (Debian: {package})"));
    }
    if !missing.is_empty() {
        return ExitCode::FAILURE;
    }
    match bench::Bench::start() {
        Ok(bench) => BENCH.get_or_init(|| bench),
        Err(error) => {
            support::complain(&format!("cannot start the servers: {error:#}"));
            bench::down();
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = bench().stop() {
        support::complain(&format!("cannot stop the servers: {error:#}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
