//! `iotctl completions`: the script that makes a shell ask this program for completions.
//!
//! The script calls the program again with the variable COMPLETE set, and `main` answers it by [`command`]: the parser whose
//! flags know their values ([`candidates`]).

use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::error::UsageError;
use crate::output::Output;

mod candidates;

/// Print the completion script of a shell.
///
/// Verbs, flags and fixed values are completed by the program itself; locations, device types and other metrics are read
/// from Cassandra, within a second. Where it does not answer, those are left out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl completions bash > ~/.local/share/bash-completion/completions/iotctl
  iotctl completions zsh > ~/.zfunc/_iotctl                  # a folder of fpath
  iotctl completions fish > ~/.config/fish/completions/iotctl.fish")]
pub struct CompletionsArgs {
    /// Shell to write the script for
    #[arg(value_enum)]
    pub shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

/// The parser that answers a shell.
pub fn command() -> clap::Command {
    candidates::attached(crate::cli::command())
}

pub fn run(args: CompletionsArgs, output: &Output) -> anyhow::Result<()> {
    output.print(script(args.shell)?.trim_end())
}

fn script(shell: Shell) -> anyhow::Result<String> {
    let name = shell.name();
    let shells = Shells::builtins();
    let completer = shells
        .completer(name)
        .ok_or_else(|| UsageError::new(format!("no completions for {name} (see --help for shells)")))?;
    let mut script = Vec::new();
    completer.write_registration("COMPLETE", "iotctl", "iotctl", "iotctl", &mut script)?;
    Ok(String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_a_script_that_calls_the_program() {
        for &shell in Shell::value_variants() {
            let script = script(shell).unwrap();
            assert!(script.contains("iotctl") && script.contains("COMPLETE"), "{shell:?}: {script}");
        }
    }
}
