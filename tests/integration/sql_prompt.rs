//! The prompt of `iotctl sql` on a terminal: a pseudo-terminal whose keys this test presses.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::support::{Lab, message, through};

crate::trials!(the_prompt_has_history_completion_and_commands_and_survives_ctrl_c);

const ENTER: &str = "\r";
const TAB: &str = "\t";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const PROMPT: &str = "iotctl> ";
const CONTINUED: &str = "...> ";
/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;
const ROWS: i64 = 123;

/// A program on a terminal of its own.
struct Terminal {
    keys: File,
    shown: Arc<Mutex<String>>,
    /// What was looked at already.
    read: usize,
    program: Child,
}

impl Terminal {
    /// `setsid` makes the terminal the one whose Ctrl-C interrupts the program.
    fn start(command: &Command) -> anyhow::Result<Self> {
        let size = nix::pty::Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = nix::pty::openpty(Some(&size), None)?;
        let mut shell = Command::new("setsid");
        shell.arg("--ctty");
        let mut shell = through(shell, command);
        let end = |end: &std::os::fd::OwnedFd| anyhow::Ok(Stdio::from(end.try_clone()?));
        shell.stdin(end(&pair.slave)?).stdout(end(&pair.slave)?).stderr(end(&pair.slave)?);
        let program = shell.spawn()?;
        drop(pair.slave);
        let keys = File::from(pair.master);
        let mut screen = keys.try_clone()?;
        let shown = Arc::new(Mutex::new(String::new()));
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error once the program has ended.
            while let Ok(count) = screen.read(&mut bytes) {
                if count == 0 {
                    break;
                }
                all.lock()
                    .expect("no panic while locked")
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Ok(Self { keys, shown, read: 0, program })
    }

    fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    /// Waits until a text is shown after what was waited for before.
    fn sees(&mut self, text: &str) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let shown = self.shown.lock().expect("no panic while locked").clone();
            if let Some(at) = shown[self.read..].find(text) {
                self.read += at + text.len();
                return Ok(());
            }
            ensure!(Instant::now() < until, "{text:?} was not shown after {:?}", &shown[self.read..]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(mut self) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.program.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                self.program.kill()?;
                anyhow::bail!("it did not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn the_prompt_has_history_completion_and_commands_and_survives_ctrl_c() -> anyhow::Result<()> {
    let mut lab = Lab::bare("prompt")?;
    lab.set("IOTCTL_SCHEMA_TTL", "1000d");
    lab.ok("-q schema apply")?;
    lab.send((0..ROWS).map(|step| message("plant-1", 1, START + step * 60_000, r#","temperature":20.5"#)))?;
    lab.ingest()?;
    let folder = tempfile::tempdir()?;
    let mut command = lab.command("sql");
    command.env("XDG_DATA_HOME", folder.path()).env("TERM", "xterm-256color").env("COLUMNS", "120");
    let mut terminal = Terminal::start(&command)?;

    terminal.sees(PROMPT)?;
    terminal.press(&format!(".tables{ENTER}"))?;
    terminal.sees("dead_letters")?;
    terminal.sees(PROMPT)?;
    terminal.press(&format!(".schema sensors{ENTER}"))?;
    terminal.sees("iot_sensor_id")?;
    terminal.sees(PROMPT)?;

    // A statement over two lines, whose table is completed.
    terminal.press(&format!("SELECT count(*) * 1000 AS n{ENTER}"))?;
    terminal.sees(CONTINUED)?;
    terminal.press(&format!("FROM readi{TAB}"))?;
    terminal.sees("readings")?;
    terminal.press(&format!(";{ENTER}"))?;
    let answer = (ROWS * 1000).to_string();
    terminal.sees(&answer)?;
    terminal.sees(PROMPT)?;
    // It comes back from the history.
    terminal.press(UP)?;
    terminal.sees("SELECT count(*)")?;
    terminal.press(ENTER)?;
    terminal.sees(&answer)?;
    terminal.sees(PROMPT)?;

    // Ctrl-C forgets the statement that has begun, and ends the one that runs.
    terminal.press(&format!("SELECT nothing{ENTER}"))?;
    terminal.sees(CONTINUED)?;
    terminal.press(CTRL_C)?;
    terminal.sees(PROMPT)?;
    let endless = "SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 10000000) b;";
    terminal.press(&format!("{endless}{ENTER}"))?;
    terminal.sees("b;")?;
    std::thread::sleep(Duration::from_secs(2));
    terminal.press(CTRL_C)?;
    terminal.sees("cancelled")?;
    terminal.sees(PROMPT)?;
    // A mistake is shown, and the prompt stays.
    terminal.press(&format!("SELECT mistake FROM readings;{ENTER}"))?;
    terminal.sees("error")?;
    terminal.sees(PROMPT)?;
    terminal.press(&format!("SELECT 6 * 7 AS answer;{ENTER}"))?;
    terminal.sees("42")?;
    terminal.sees(PROMPT)?;
    terminal.press(CTRL_D)?;
    let status = terminal.ends()?;
    ensure!(status.success(), "{status}");

    let history = folder.path().join("iotctl").join("sql_history");
    let kept = std::fs::read_to_string(&history).with_context(|| history.display().to_string())?;
    for statement in [".tables", "count(*) * 1000", "SELECT 6 * 7 AS answer;"] {
        ensure!(kept.contains(statement), "{statement} is not in {kept}");
    }
    ensure!(!kept.contains("nothing"), "{kept}");
    Ok(())
}
