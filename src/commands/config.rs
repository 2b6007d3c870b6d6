//! `iotctl config show|init`.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::presets;
use toml::Value;

use crate::config::show::Effective;
use crate::config::{self, Loaded, Sources};
use crate::error::UsageError;
use crate::output::Output;
use crate::output::table::table;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the effective values with their origin; secrets are redacted
    Show(ShowArgs),
    /// Write a commented file with every setting at its default
    Init(InitArgs),
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: ShowFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ShowFormat {
    /// For people
    #[default]
    Table,
    /// One JSON object: {"kafka.topic": {"value": …, "origin": …}, …}
    Json,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where to write it
    #[arg(long, value_name = "FILE", default_value = config::file::LOCAL_FILE)]
    path: PathBuf,
    /// Overwrite a file that is there
    #[arg(long)]
    force: bool,
}

pub fn run(command: ConfigCommand, sources: &Sources, output: &Output) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Show(args) => show(&args, sources, output),
        ConfigCommand::Init(args) => init(&args, output),
    }
}

fn show(args: &ShowArgs, sources: &Sources, output: &Output) -> anyhow::Result<()> {
    let loaded = Loaded::load(sources).map_err(|error| UsageError::new(error.to_string()))?;
    match &loaded.file {
        Some(path) => output.note(format!("config file: {}", path.display())),
        None => output.note("config file: none (`iotctl config init` writes one)"),
    }
    match args.format {
        ShowFormat::Table => output.print(as_table(&loaded.effective)),
        ShowFormat::Json => output.json(&config::show::as_json(&loaded.effective)),
    }
}

fn init(args: &InitArgs, output: &Output) -> anyhow::Result<()> {
    let path = args.path.display();
    match config::init::write(&args.path, args.force) {
        Ok(()) => {
            output.note(format!("wrote {path}"));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !args.force => Err(UsageError::new(
            format!("{path} is there already (overwrite it with --force, or name another with --path)"),
        )
        .into()),
        Err(error) => {
            Err(error).with_context(|| format!("cannot write {path} (name another place with --path)"))
        }
    }
}

/// For people.
pub(crate) fn as_table(effective: &[Effective]) -> String {
    let mut table = table(&["key", "value", "origin"], &[]);
    // Many short rows: no lines between them.
    table.load_style(presets::NOTHING);
    for setting in effective {
        let value = match &setting.value {
            None => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            Some(other) => other.to_string(),
        };
        table.add_row([setting.key.clone(), value, setting.origin.to_string()]);
    }
    table.to_string()
}
