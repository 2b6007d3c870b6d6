//! `iotctl config show|init`.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use toml::Value;

use crate::config::show::Effective;
use crate::config::{self, Loaded, Origin, Sources};
use crate::error::UsageError;
use crate::output::table::{Table, table};
use crate::output::{Output, ReportFormat};

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting in force and where it comes from, secrets redacted
    Show(ShowArgs),
    /// Write a commented config file with every setting at its default
    Init(InitArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl config show
  iotctl --topic test config show --format json | jq '.\"kafka.topic\"'")]
pub struct ShowArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  iotctl config init                              # ./iotctl.toml
  iotctl config init /etc/iotctl/iotctl.toml --force")]
pub struct InitArgs {
    /// File to write; its folder must exist. Below /etc every user may read it, elsewhere its owner only
    #[arg(value_name = "PATH", default_value = config::file::LOCAL_FILE)]
    path: PathBuf,
    /// The same as PATH, as it was written before 0.1.0
    #[arg(long = "path", value_name = "PATH", hide = true, conflicts_with = "path")]
    path_flag: Option<PathBuf>,
    /// Overwrite an existing file
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
        ReportFormat::Table => output.table(&as_table(&loaded.effective)),
        ReportFormat::Json => output.json(&config::show::as_json(&loaded.effective)),
    }
}

fn init(args: &InitArgs, output: &Output) -> anyhow::Result<()> {
    let path = args.path_flag.as_ref().unwrap_or(&args.path);
    let shown = path.display();
    match config::init::write(path, args.force) {
        Ok(()) => {
            output.note(format!("wrote {shown}"));
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !args.force => Err(UsageError::new(
            format!("{shown} already exists (use --force to overwrite it, or another path)"),
        )
        .into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path).display();
            Err(UsageError::new(format!(
                "cannot write {shown}: the folder {folder} does not exist (create it with `mkdir -p {folder}`)"
            ))
            .into())
        }
        Err(error) => Err(error).with_context(|| format!("cannot write {shown} (use another path)")),
    }
}

/// One line per setting.
pub(crate) fn as_table(effective: &[Effective]) -> Table {
    let mut table = table(&["key", "value", "origin"], &[]).shortened(
        "origins are shortened: a variable is IOTCTL_ and the key in capitals, such as IOTCTL_KAFKA_TOPIC",
    );
    for setting in effective {
        let value = match &setting.value {
            None => "-".to_owned(),
            Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            Some(other) => other.to_string(),
        };
        let value = if value.is_empty() { "\"\"".to_owned() } else { value };
        // A list can be wrapped, and a name that follows from the key can be left out.
        let list = matches!(setting.value, Some(Value::Array(_))).then(|| value.replace(',', ", "));
        let origin = match &setting.origin {
            Origin::File { line, .. } => Some(format!("file, line {line}")),
            Origin::Environment(_) => Some("variable".to_owned()),
            Origin::Default | Origin::Flag(_) => None,
        };
        table.add_row_with_shorter([
            (setting.key.clone(), None),
            (value, list),
            (setting.origin.to_string(), origin),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::output::ColorChoice;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: InitArgs,
    }

    fn init(line: &[&str]) -> Result<(), String> {
        let args = Line::try_parse_from([&["init"], line].concat()).map_err(|error| error.to_string())?.args;
        super::init(&args, &Output::new(ColorChoice::Never, true)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_path_is_an_argument_and_its_old_flag_still_works() {
        let folder = tempfile::tempdir().unwrap();
        for (name, flag) in [("argument.toml", &[][..]), ("flag.toml", &["--path"])] {
            let path = folder.path().join(name);
            init(&[flag, &[path.to_str().unwrap()]].concat()).unwrap();
            assert!(path.exists(), "{name}");
        }
        assert!(init(&["a.toml", "--path", "b.toml"]).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn an_existing_file_and_a_missing_folder_are_errors_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iotctl.toml");
        init(&[path.to_str().unwrap()]).unwrap();
        let error = init(&[path.to_str().unwrap()]).unwrap_err();
        assert!(error.contains("already exists (use --force to overwrite it"), "{error}");
        let missing = folder.path().join("missing");
        let error = init(&[missing.join("iotctl.toml").to_str().unwrap()]).unwrap_err();
        assert!(
            error.ends_with(&format!("does not exist (create it with `mkdir -p {}`)", missing.display())),
            "{error}"
        );
    }
}
