//! Parse, run, exit. Everything else lives in the library.

use std::process::ExitCode;

use iotctl::cli::Cli;
use iotctl::commands::exit;
use iotctl::error::OutputClosed;
use iotctl::output::Output;
use mimalloc::MiMalloc;

/// What a message is read into is allocated in many small pieces, and freed by another thread.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Whoever initialises OpenSSL first says whether exit() frees what librdkafka's threads may be using: not so.
    openssl_sys::init();
    // Where the shell asks for completions, this answers and exits; nothing may be printed before.
    clap_complete::CompleteEnv::with_factory(iotctl::commands::completions::command).complete();
    let cli = Cli::from_arguments();
    let output = Output::new(cli.global.color, cli.global.quiet);
    iotctl::output::log::init(cli.global.verbose);
    let runtime = match iotctl::runtime::builder().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.failure(&anyhow::Error::new(error).context("cannot start the runtime"));
            return ExitCode::from(iotctl::error::EXIT_FAILED);
        }
    };
    let result = runtime.block_on(iotctl::commands::run(cli, output));
    // A blocking thread that waits on a socket must not keep a finished command alive.
    runtime.shutdown_background();
    if let Err(error) = &result
        && !error.is::<OutputClosed>()
    {
        output.failure(error);
    }
    exit::code(&result)
}
