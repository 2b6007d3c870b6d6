//! Nodes that iotctl did not start: the same servers, tended by an operator's own commands and nodetool over JMX.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bench::Bench;
use crate::servers;
use crate::support::{complain, eventually};

crate::faults!(short: [], long: [an_operators_own_machines]);

const NEWCOMER: &str = "127.0.43.4";
const SEEDS: &str = "127.0.43.1:17800,127.0.43.2:17800";
const STORAGE_PORT: &str = "17800";
/// Of the first node; the others' are the next ones, all on this machine's 127.0.0.1.
const JMX_PORT: u16 = 17_899;

/// What Cassandra's tool needs of a Java 17.
const OPENED: [&str; 6] = [
    "--add-exports=java.rmi/sun.rmi.transport.tcp=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
];

/// The machine that joins: a directory, and what starts Cassandra in it.
struct Machine {
    dir: PathBuf,
}

impl Machine {
    /// As an operator would install one: like cassandra-3, with its own address.
    fn install() -> anyhow::Result<Self> {
        let model = servers().dir("cassandra-3");
        let dir = servers().dir("remote-4");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("conf"))?;
        let machine = Self { dir };
        let own = |text: &str| text.replace("cassandra-3", "remote-4");
        for entry in fs::read_dir(model.join("conf"))? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.file_name().context("a name")?.to_owned();
                fs::write(machine.dir.join("conf").join(name), own(&fs::read_to_string(&path)?))?;
            }
        }
        let yaml = machine.dir.join("conf/cassandra.yaml");
        let lines = fs::read_to_string(&yaml)?;
        let lines = lines.lines().map(|line| match line.contains("seeds:") {
            true => line.to_owned(),
            false => line.replace("127.0.43.3", NEWCOMER),
        });
        fs::write(&yaml, lines.collect::<Vec<_>>().join("\n"))?;
        let arguments = fs::read_to_string(format!("/proc/{}/cmdline", servers().pid("cassandra-3")?))?;
        let jmx = |index: u16| format!("-Dcassandra.jmx.local.port={}", JMX_PORT + index);
        let mut arguments = own(&arguments)
            .replace(&jmx(2), &jmx(3))
            .split_terminator('\0')
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let java = arguments.remove(0);
        let class_path = arguments.iter().position(|argument| argument == "-cp").context("a class path")?;
        let jars = arguments[class_path + 1].clone();
        machine.write("args", &arguments.join("\n"))?;
        let dir = machine.dir.display();
        machine.write(
            "start",
            &format!("setsid {java} @{dir}/args > {dir}/out 2>&1 < /dev/null & echo $! > {dir}/pid\n"),
        )?;
        machine.write(
            "stop",
            &format!(
                "kill $(cat {dir}/pid); while kill -0 $(cat {dir}/pid) 2>/dev/null; do sleep 0.2; done\n"
            ),
        )?;
        machine.write(
            "check",
            &format!("[ ! -e {dir}/data ] || {{ echo 'its data directory is not empty' >&2; exit 1; }}\n"),
        )?;
        let away = servers().dir("remote-4-away");
        let _ = fs::remove_dir_all(&away);
        machine.write("aside", &format!("mv {dir}/data {} && echo {}\n", away.display(), away.display()))?;
        // All nodes are at 127.0.0.1 to JMX, each at its own port: $1 … $4 are -h HOST -p PORT.
        machine.write(
            "nodetool",
            &format!(
                "shift 4\nexec {java} -Xmx64m -Dcom.sun.jndi.rmiURLParsing=legacy {} -cp '{jars}' \
                 org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p $(({JMX_PORT} + ${{NODE##*.}} - 1)) \"$@\"\n",
                OPENED.join(" ")
            ),
        )?;
        Ok(machine)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        Ok(fs::write(self.dir.join(name), text)?)
    }

    fn command(&self, name: &str) -> String {
        format!("sh {}", self.dir.join(name).display())
    }

    fn configure(&self, bench: &mut Bench) {
        for (key, value) in [
            ("RUNTIME", "remote".to_owned()),
            ("HOSTS", NEWCOMER.to_owned()),
            ("STORAGE_PORT", STORAGE_PORT.to_owned()),
            ("JOURNAL_DIR", self.dir.join("journal").display().to_string()),
            ("NODETOOL", self.command("nodetool")),
            ("START_COMMAND", self.command("start")),
            ("STOP_COMMAND", self.command("stop")),
            ("CHECK_COMMAND", self.command("check")),
            ("SET_ASIDE_COMMAND", self.command("aside")),
            ("DISK_COMMAND", "df --output=avail -B1 / | tail -1".to_owned()),
        ] {
            bench.set(&format!("IOTCTL_CLUSTER_{key}"), &value);
        }
    }
}

impl Machine {
    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.dir.join("pid")).ok()?;
        text.trim().parse().ok().map(Pid::from_raw)
    }

    fn is_alive(&self) -> bool {
        self.pid().is_some_and(|pid| kill(pid, None).is_ok())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

fn refused(bench: &Bench, arguments: &[&str], words: &[&str]) -> anyhow::Result<()> {
    let error = bench.ok(&[&["-q", "node"], arguments].concat()).err();
    let error = error.with_context(|| format!("{arguments:?} was not refused"))?.to_string();
    for word in words {
        ensure!(error.contains(word), "{word:?} is not in {error}");
    }
    complain(&format!("  {}", error.lines().last().unwrap_or_default()));
    Ok(())
}

/// Gives every node these seeds, as an operator who edits the file and reloads it. `up` writes its own at the next start.
fn set_seeds(machine: &Machine, seeds: &str) -> anyhow::Result<()> {
    for number in 1..=3 {
        let yaml = servers().dir(&format!("cassandra-{number}")).join("conf/cassandra.yaml");
        let text = fs::read_to_string(&yaml)?;
        let lines = text.lines().map(|line| match line.contains("- seeds:") {
            true => format!("      - seeds: \"{seeds}\""),
            false => line.to_owned(),
        });
        fs::write(&yaml, lines.collect::<Vec<_>>().join("\n"))?;
        let mut nodetool = std::process::Command::new("sh");
        nodetool.arg(machine.dir.join("nodetool")).args(["-h", "any", "-p", "1", "reloadseeds"]);
        let output = nodetool.env("NODE", format!("127.0.43.{number}")).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// Waits until the newcomer is in this state.
fn await_state(bench: &Bench, state: &str) -> anyhow::Result<()> {
    eventually(&format!("{NEWCOMER} is {state}"), Duration::from_secs(90), || {
        let list: serde_json::Value =
            serde_json::from_str(&bench.ok(&["-q", "node", "list", "--format", "json"])?)?;
        let members = list["members"].as_array().context("members")?;
        Ok(members
            .iter()
            .any(|member| member["address"] == format!("{NEWCOMER}:9042") && member["state"] == state))
    })
}

fn is_there(path: &Path) -> bool {
    path.read_dir().is_ok_and(|mut entries| entries.next().is_some())
}

/// Every refusal, then 3 nodes, 4, and 3 again under load, with iotctl killed once in the middle of both.
fn an_operators_own_machines() -> anyhow::Result<()> {
    let mut bench = Bench::new("remote")?;
    let machine = Machine::install()?;
    machine.configure(&mut bench);
    set_seeds(&machine, SEEDS)?;
    let leave = ["decommission", NEWCOMER, "--yes"];

    refused(&bench, &leave, &["is not a cluster member"])?;
    refused(&bench, &["decommission", "cassandra-3", "--yes"], &["is not an address"])?;
    fs::create_dir(machine.dir.join("data"))?;
    refused(&bench, &["add"], &["adding 127.0.43.4 is refused", "its data directory is not empty"])?;
    fs::remove_dir(machine.dir.join("data"))?;
    {
        let _taken = std::net::TcpListener::bind((NEWCOMER, 9042))?;
        refused(&bench, &["add"], &["something answers at 127.0.43.4"])?;
    }
    bench.set("IOTCTL_CLUSTER_DISK_COMMAND", "echo 1000");
    refused(&bench, &["add"], &["127.0.43.4 has 1000 B free"])?;
    let decommission = ["decommission", "127.0.43.3", "--dry-run", "--fix-system-replication"];
    refused(&bench, &decommission, &["127.0.43.1 has 1000 B free", "127.0.43.2 has 1000 B free"])?;
    bench.set("IOTCTL_CLUSTER_HOSTS", "127.0.43.2");
    refused(&bench, &["add"], &["no host is left that could join", "cluster.hosts"])?;
    machine.configure(&mut bench);
    set_seeds(&machine, "127.0.43.1:17800,127.0.43.4:17800")?;
    refused(&bench, &["add"], &["127.0.43.4 is a seed to the others"])?;
    // Cassandra reloads no empty list, which the seed's own would be; 127.0.43.9 is nobody.
    set_seeds(&machine, "127.0.43.1:17800,127.0.43.9:17800")?;
    refused(&bench, &["decommission", "127.0.43.1", "--dry-run"], &["it is the last seed"])?;
    set_seeds(&machine, SEEDS)?;

    bench.load(3000, 150)?;
    let ingest = bench.ingest()?;
    bench.await_flow()?;
    let mut killed = bench.spawn(&["-q", "node", "add"])?;
    await_state(&bench, "joining")?;
    killed.kill()?;
    // Whoever knows nothing of it sees that somebody is joining.
    bench.set("IOTCTL_CLUSTER_JOURNAL_DIR", "/nonexistent");
    refused(&bench, &["decommission", "127.0.43.3", "--dry-run"], &["127.0.43.4 is joining"])?;
    machine.configure(&mut bench);
    bench.ok(&["-q", "node", "add"])?;
    bench.ok(&["-q", "node", "cleanup"])?;
    let mut killed = bench.spawn(&[&["-q", "node"], &leave[..]].concat())?;
    await_state(&bench, "leaving")?;
    killed.kill()?;
    bench.set("IOTCTL_CLUSTER_JOURNAL_DIR", "/nonexistent");
    refused(&bench, &["decommission", "127.0.43.3", "--dry-run"], &["127.0.43.4 is leaving"])?;
    machine.configure(&mut bench);
    bench.ok(&[&["-q", "node"], &leave[..]].concat())?;
    let away = servers().dir("remote-4-away");
    ensure!(is_there(&away) && !machine.dir.join("data").exists(), "its data was not moved aside");
    ensure!(!machine.is_alive(), "its process runs on");
    fs::remove_dir_all(&away)?;
    ensure!(bench.ingest_runs(ingest)?, "ingest ended");
    bench.finish().map(|_| ())
}
