//! `iotctl man`: a man page for each command, for packages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::output::Output;

/// Write man pages.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl man --output /usr/local/share/man/man1")]
pub struct ManArgs {
    /// Folder to write to; made where it does not exist
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
}

pub fn run(args: &ManArgs, output: &Output) -> anyhow::Result<()> {
    let folder = args.output.display();
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot make {folder}"))?;
    clap_mangen::generate_to(crate::cli::command(), &args.output)
        .with_context(|| format!("cannot write to {folder}"))?;
    output.note(format!("man pages are in {folder}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::ColorChoice;

    #[test]
    fn every_command_has_a_page_with_its_flags_and_examples() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs { output: folder.path().join("man1") };
        run(&args, &Output::new(ColorChoice::Never, true)).unwrap();
        let page = |name: &str| std::fs::read_to_string(args.output.join(name)).unwrap_or_default();
        for (name, text) in [
            ("iotctl.1", "Global options"),
            ("iotctl-query.1", "iotctl query \\-\\-location plant\\-1"),
            ("iotctl-node-add.1", "\\-\\-count"),
        ] {
            assert!(page(name).contains(text), "{name}: {}", page(name));
        }
        assert!(page("iotctl-reference.1").is_empty(), "hidden commands have no page");
    }
}
