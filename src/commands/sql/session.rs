//! Runs statements one after another in one session, and the commands beside them.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Instant;

use datafusion::prelude::SessionContext;
use tokio::time::timeout;

use super::answer::{Answer, refused};
use super::chart::Points;
use super::copy;
use super::file::Unfinished;
use super::input::Input;
use super::prompt::{Line, Prompt};
use super::script::{Item, Script};
use super::{SqlArgs, SqlFormat};
use crate::cassandra;
use crate::commands::Context;
use crate::commands::support::until_stopped;
use crate::error::{Interrupted, UsageError};
use crate::output::text::plural;
use crate::output::{Format, Output};
use crate::shutdown::Shutdown;
use crate::sql::{Bounds, Engine, Limits, context};
use crate::time::Zone;

const HELP: &str = "\
Statements end with a semicolon and may have several lines.
  .tables           tables
  .schema [TABLE]   columns
  .timing           show how long statements take, or stop that
  .help             this text
  .quit             end, as Ctrl-D does
Ctrl-C cancels the statement that runs. SET iotctl.rollups = false uses raw rows only.
COPY (SELECT ...) TO 'FILE.parquet' writes a file. EXPLAIN shows what a statement reads.";

struct Session<'a> {
    args: &'a SqlArgs,
    context: SessionContext,
    output: Output,
    zone: Zone,
    shows_time: bool,
}

pub(super) async fn run(args: SqlArgs, command: Context) -> anyhow::Result<()> {
    check(&args)?;
    let Context { config, output, shutdown, .. } = command;
    let zone = args.zone.zone()?;
    let mut input = match &args.statement {
        Some(statement) => {
            let mut script = Script::default();
            let has_one = statement.lines().any(|line| !script.push(line).is_empty()) || script.is_waiting();
            if !has_one {
                return Err(UsageError::new("the statement is empty (write iotctl sql 'SELECT …')").into());
            }
            Input::of_text(statement)
        }
        None => Input::Standard,
    };
    let is_prompt = args.statement.is_none() && std::io::stdin().is_terminal();
    let session = until_stopped(&shutdown, cassandra::Session::connect(&config.cassandra)).await?;
    let memory = usize::try_from(args.memory.as_u64()).unwrap_or(usize::MAX);
    let bounds = Bounds { time: args.timeout, ..Limits::default().bounds };
    let engine = Engine::new(session, config, Limits { memory, bounds, ..Limits::default() })?;
    let context = until_stopped(&shutdown, engine.context()).await?;
    context::use_rollups(&context, !args.raw);
    if is_prompt {
        input = Input::Prompt(Prompt::start(context::names(&context).await)?);
        shutdown.claim_interrupts();
        output.note("iotctl sql: .help for help, Ctrl-D to end");
    }
    let mut session = Session { args: &args, context, output, zone, shows_time: false };
    session.all(&mut input, &shutdown).await
}

/// Flags that do not go together.
fn check(args: &SqlArgs) -> Result<(), UsageError> {
    if args.format == SqlFormat::Parquet && args.output.is_none() {
        return Err(UsageError::new("--format parquet needs --output FILE"));
    }
    if args.plot.plot.is_some() && (args.output.is_some() || args.format != SqlFormat::Table) {
        return Err(UsageError::new(
            "--plot draws instead of printing rows (leave out --format and --output; --plot FILE.svg draws to a file)",
        ));
    }
    Ok(())
}

impl Session<'_> {
    async fn all(&mut self, input: &mut Input, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut script = Script::default();
        let mut statements = 0;
        loop {
            let line = until_stopped(shutdown, input.next(script.is_waiting())).await?;
            let (items, is_over) = match line {
                Line::Text(line) => (script.push(&line), false),
                Line::Interrupted => {
                    script.clear();
                    continue;
                }
                Line::End => (script.finish().into_iter().collect(), true),
            };
            for item in items {
                statements += 1;
                if statements > 1 && self.args.output.is_some() && !input.is_prompt() {
                    return Err(UsageError::new("--output takes one statement").into());
                }
                if !self.item(item, input, shutdown).await? {
                    return Ok(());
                }
            }
            if is_over {
                return match statements == 0 && !input.is_prompt() {
                    true => {
                        Err(UsageError::new("there is no statement (write iotctl sql 'SELECT …')").into())
                    }
                    false => Ok(()),
                };
            }
        }
    }

    /// `false` to end. At the prompt an error is shown; elsewhere it ends the work.
    async fn item(&mut self, item: Item, input: &Input, shutdown: &Shutdown) -> anyhow::Result<bool> {
        if let Input::Prompt(prompt) = input {
            match &item {
                Item::Statement(statement) => prompt.remember(&format!("{statement};")),
                Item::Command(command) => prompt.remember(&format!(".{command}")),
            }
        }
        let (began, is_timed) = (Instant::now(), self.shows_time && matches!(item, Item::Statement(_)));
        let done = tokio::select! {
            done = self.done(item) => done,
            () = shutdown.requested() => return Err(Interrupted.into()),
            () = shutdown.interrupted() => {
                self.output.note("cancelled");
                return Ok(true);
            }
        };
        if is_timed {
            self.output.note(format!("{:.1} ms", began.elapsed().as_secs_f64() * 1_000.0));
        }
        match done {
            Err(error) if input.is_prompt() && !error.is::<crate::error::OutputClosed>() => {
                self.output.failure(&error);
                Ok(true)
            }
            done => done,
        }
    }

    async fn done(&mut self, item: Item) -> anyhow::Result<bool> {
        let statement = match item {
            Item::Statement(statement) => statement,
            Item::Command(command) => match command.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["tables"] => TABLES.to_owned(),
                ["schema"] => format!("{COLUMNS} ORDER BY table_name, ordinal_position"),
                ["schema", table] => {
                    let table = table.trim_matches('"').replace('\'', "''");
                    format!("{COLUMNS} AND table_name = '{table}' ORDER BY ordinal_position")
                }
                ["help"] => {
                    self.output.print(HELP)?;
                    return Ok(true);
                }
                ["timing"] => {
                    self.shows_time = !self.shows_time;
                    self.output.note(if self.shows_time { "timing is on" } else { "timing is off" });
                    return Ok(true);
                }
                ["quit" | "exit"] => return Ok(false),
                _ => {
                    let text = format!(
                        ".{command} is not known (there are .tables, .schema [TABLE], .timing, .help and .quit)"
                    );
                    return Err(UsageError::new(text).into());
                }
            },
        };
        match copy::of(&statement)? {
            Some(copy) => self.write(&copy.statement, &copy.path, copy.format).await?,
            None => self.answer(&statement).await?,
        }
        Ok(true)
    }

    async fn plan(
        &self,
        statement: &str,
    ) -> anyhow::Result<datafusion::execution::SendableRecordBatchStream> {
        match timeout(self.args.timeout, context::run(&self.context, statement)).await {
            Ok(planned) => planned.map_err(refused),
            Err(_) => anyhow::bail!("the statement was not planned within --timeout (raise it)"),
        }
    }

    async fn answer(&self, statement: &str) -> anyhow::Result<()> {
        if let Some(path) = &self.args.output {
            return self.write(statement, path, self.args.format).await;
        }
        let mut batches = self.plan(statement).await?;
        let schema = batches.schema();
        // SET has no answer.
        if schema.fields().is_empty() {
            return Answer::nothing(&mut batches).await;
        }
        let format = self.args.format.of_records().unwrap_or(Format::Table);
        let mut answer = match self.args.plot.plot {
            Some(_) => Answer::Drawn(Points::of(&schema)?),
            None => Answer::printed(&self.output, format, self.zone, &schema)?,
        };
        answer.take(&mut batches).await?;
        match answer {
            Answer::Printed(records, _) => {
                if records.finish()? == 0 {
                    self.output.note("no rows");
                }
            }
            Answer::Drawn(points) => {
                self.args.plot.show(&points.picture(self.zone, &self.output), &self.output)?;
            }
            Answer::Written(_) | Answer::Plan(_) => {}
        }
        Ok(())
    }

    async fn write(&self, statement: &str, path: &Path, format: SqlFormat) -> anyhow::Result<()> {
        let mut batches = self.plan(statement).await?;
        let schema = batches.schema();
        if schema.fields().is_empty() {
            return Err(UsageError::new("the statement has no answer to write").into());
        }
        let file = Unfinished::create(path)?;
        let mut answer = Answer::written(file, format, self.zone, &schema, &self.output)?;
        answer.take(&mut batches).await?;
        if let Answer::Written(rows) = answer {
            let (path, rows) = rows.finish()?;
            self.output.note(format!("{} written to {}", plural(rows, "row"), path.display()));
        }
        Ok(())
    }
}

const TABLES: &str =
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name";
const COLUMNS: &str = "SELECT table_name, column_name, data_type FROM information_schema.columns \
                       WHERE table_schema = 'public'";
