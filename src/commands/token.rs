//! `iotctl token add|list|remove`: who may ask the dashboard and the metrics.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::{Loaded, Sources};
use crate::error::UsageError;
use crate::http::login::Role;
use crate::http::login::token::{self, Tokens, TokensError};
use crate::output::record::{Cell, Heading};
use crate::output::{Format, Output};
use crate::time::Zone;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and add its hash to the file
    Add(AddArgs),
    /// List names and roles
    List(ListArgs),
    /// Remove a token, which stops working at once
    Remove(RemoveArgs),
}

/// The file of the tokens.
#[derive(Debug, Clone, Args)]
pub struct FileArgs {
    /// The file of hashed tokens [default: http.tokens_file]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Make a token, and add its hash to the file.
///
/// The token is printed once, to stdout, and kept nowhere: the file has its SHA-256, which is enough for 256 random bits. Servers
/// read the file again when it changes. A missing file is created for its owner only (mode 600).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl token add ada --role operator --file /etc/iotctl/tokens
  iotctl token add prometheus --role viewer > prometheus.token
  curl -H \"Authorization: Bearer $TOKEN\" https://HOST:8080/api/fleet")]
pub struct AddArgs {
    /// Whose it is: a person, or a program such as prometheus
    #[arg(value_name = "NAME")]
    name: String,
    /// What it allows
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Role,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl token list
  iotctl token list --file /etc/iotctl/tokens --format json")]
pub struct ListArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl token remove ada")]
pub struct RemoveArgs {
    /// Whose token
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    file: FileArgs,
}

pub fn run(command: TokenCommand, sources: &Sources, output: &Output) -> anyhow::Result<()> {
    match command {
        TokenCommand::Add(args) => {
            let file = args.file.find(sources)?;
            let token = token::add(&file, &args.name, args.role).map_err(usage)?;
            output.print(&token)?;
            output.note(format!(
                "{}, {}: keep this token, it is not shown again; its hash is in {}",
                args.name,
                args.role,
                file.display()
            ));
        }
        TokenCommand::List(args) => {
            let tokens = Tokens::read(&args.file.find(sources)?).map_err(usage)?;
            let headings = vec![Heading::left("name"), Heading::left("role")];
            let mut records = output.records(args.format, Zone::Utc, headings)?;
            for entry in tokens.entries() {
                records.write(&[Cell::Text(&entry.name), Cell::Text(entry.role.name())])?;
            }
            records.finish()?;
        }
        TokenCommand::Remove(args) => {
            let file = args.file.find(sources)?;
            token::remove(&file, &args.name).map_err(usage)?;
            output.note(format!("{} is removed from {}", args.name, file.display()));
        }
    }
    Ok(())
}

impl FileArgs {
    /// The flag, else the setting.
    fn find(&self, sources: &Sources) -> anyhow::Result<PathBuf> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let loaded = Loaded::load(sources).map_err(|error| UsageError::new(error.to_string()))?;
        let file = loaded.config.http.tokens_file;
        file.ok_or_else(|| UsageError::new("no file of tokens (give --file, or set http.tokens_file)").into())
    }
}

fn usage(error: TokensError) -> UsageError {
    UsageError::new(error.to_string())
}
