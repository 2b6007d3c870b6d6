//! Finds a Java that the servers run on. Cassandra 5.0 supports 11 and 17 and nothing newer, while the `java` that
//! stands first on a developer's PATH is often newer; so every usual place is looked at, and each Java is asked its
//! version before it is believed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::error::UsageError;

const INSTALL: &str = "install JDK 17, such as `apt install openjdk-17-jdk-headless`, `brew install openjdk@17` or \
     `sdk install java 17-tem`, or let IOTCTL_JAVA name one";

/// A Java that can run the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Java {
    pub program: PathBuf,
    /// 11 or 17.
    pub version: u32,
}

/// Where to look, so that tests can look elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub iotctl_java: Option<PathBuf>,
    pub java_home: Option<PathBuf>,
    pub path: Option<OsString>,
    /// Folders of which each subfolder may be a Java.
    pub folders: Vec<PathBuf>,
}

impl Places {
    pub fn of_this_machine() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut folders: Vec<PathBuf> =
            ["/usr/lib/jvm", "/usr/java", "/opt", "/Library/Java/JavaVirtualMachines", "/opt/homebrew/opt"]
                .map(PathBuf::from)
                .to_vec();
        if let Some(dirs) = directories::BaseDirs::new() {
            let home = dirs.home_dir();
            folders.extend([
                home.join(".sdkman/candidates/java"),
                home.join(".jdks"),
                home.join("Library/Java/JavaVirtualMachines"),
            ]);
        }
        Self {
            iotctl_java: variable("IOTCTL_JAVA").map(Into::into),
            java_home: variable("JAVA_HOME").map(Into::into),
            path: variable("PATH"),
            folders,
        }
    }

    /// The programs to consider, in the order of preference among equals.
    fn candidates(&self) -> Vec<PathBuf> {
        let mut candidates: Vec<PathBuf> =
            self.java_home.iter().filter_map(|home| program_in(home)).collect();
        for dir in self.path.iter().flat_map(std::env::split_paths) {
            candidates.push(dir.join("java"));
        }
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut homes: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            homes.sort();
            candidates.extend(homes.iter().filter_map(|home| program_in(home)));
        }
        let mut seen = std::collections::HashSet::new();
        candidates
            .into_iter()
            .filter(|program| program.is_file())
            .filter(|program| seen.insert(program.canonicalize().unwrap_or_else(|_| program.clone())))
            .collect()
    }
}

/// The `java` of a JDK's folder; macOS wraps the folder in a bundle.
fn program_in(home: &Path) -> Option<PathBuf> {
    ["bin/java", "Contents/Home/bin/java", "libexec/openjdk.jdk/Contents/Home/bin/java"]
        .map(|path| home.join(path))
        .into_iter()
        .find(|program| program.is_file())
}

/// Java 17 where there is one, else 11. What IOTCTL_JAVA names is taken or refused, never passed over.
pub async fn find(places: &Places) -> anyhow::Result<Java> {
    if let Some(named) = &places.iotctl_java {
        return named_by_user(named).await;
    }
    let mut unsuitable = Vec::new();
    let mut eleven = None;
    for program in places.candidates() {
        match version_of(&program).await {
            Some(17) => return Ok(Java { program, version: 17 }),
            Some(11) if eleven.is_none() => eleven = Some(Java { program, version: 11 }),
            Some(11) => {}
            Some(version) => unsuitable.push(format!("{version} at {}", program.display())),
            None => unsuitable.push(format!("{} does not tell its version", program.display())),
        }
    }
    match (eleven, unsuitable.is_empty()) {
        (Some(java), _) => Ok(java),
        (None, true) => bail!("Cassandra needs Java 17 or 11, and there is none here ({INSTALL})"),
        (None, false) => {
            bail!("Cassandra needs Java 17 or 11; here is only {} ({INSTALL})", unsuitable.join(", "))
        }
    }
}

async fn named_by_user(named: &Path) -> anyhow::Result<Java> {
    let refuse = |why: String| UsageError::new(format!("IOTCTL_JAVA={}: {why} ({INSTALL})", named.display()));
    let program = match named.is_dir() {
        true => program_in(named).ok_or_else(|| refuse("there is no bin/java in this folder".into()))?,
        false => named.to_owned(),
    };
    match version_of(&program).await {
        Some(version @ (11 | 17)) => Ok(Java { program, version }),
        Some(version) => Err(refuse(format!("this is Java {version}; Cassandra 5.0 needs 17 or 11")).into()),
        None => Err(refuse("this is no Java that tells its version".into()).into()),
    }
}

/// The feature version of the Java whose program this is: by its `release` file, else by asking it.
async fn version_of(program: &Path) -> Option<u32> {
    let real = program.canonicalize().ok()?;
    let release = real.parent()?.parent()?.join("release");
    if let Some(version) = std::fs::read_to_string(release).ok().as_deref().and_then(version_in_release) {
        return Some(version);
    }
    let asked = tokio::process::Command::new(program)
        .arg("-version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(10), asked).await.ok()?.ok()?;
    version_in_answer(&String::from_utf8_lossy(&output.stderr))
}

/// `JAVA_VERSION="17.0.15"` in a JDK's `release` file.
fn version_in_release(text: &str) -> Option<u32> {
    let value = text.lines().find_map(|line| line.strip_prefix("JAVA_VERSION="))?;
    feature_version(value.trim().trim_matches('"'))
}

/// `openjdk version "17.0.15" 2025-04-15`, the first line that holds a version; a note about options may precede it.
fn version_in_answer(text: &str) -> Option<u32> {
    let line = text.lines().find(|line| line.contains(" version \""))?;
    feature_version(line.split('"').nth(1)?)
}

/// 17 of "17.0.15", "17" and "17-ea"; 8 of "1.8.0_402".
fn feature_version(version: &str) -> Option<u32> {
    let mut numbers = version.split(|char: char| !char.is_ascii_digit()).map(|digits| digits.parse().ok());
    match numbers.next()?? {
        1 => numbers.next()?,
        version => Some(version),
    }
}

impl Java {
    /// The folder that JAVA_HOME would name, where the program lies in one.
    pub fn home(&self) -> Option<PathBuf> {
        let real = self.program.canonicalize().ok()?;
        Some(real.parent()?.parent()?.to_owned())
    }

    /// Kafka 4 left Java 11 behind.
    pub fn check_runs_kafka_4(&self) -> anyhow::Result<()> {
        match self.version {
            17.. => Ok(()),
            version => Err(anyhow::anyhow!(
                "Kafka 4 needs Java 17, and {} is {version} (use `iotctl up --kafka zookeeper`, or {INSTALL})",
                self.program.display()
            )),
        }
    }

    /// A command that runs `main` from the jars of a folder.
    pub fn command(&self, jars: &Path, jvm_options: Vec<String>, main: &str) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        // The user's own options are meant for other programs, and an unknown one would end the JVM.
        for variable in ["JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"] {
            command.env_remove(variable);
        }
        command.args(jvm_options).arg("-cp").arg(jars.join("*")).arg(main);
        command
    }
}

/// Runs a short Java program to its end, within a deadline; its output is in the error if it fails.
pub async fn run(command: std::process::Command, what: &str, deadline: Duration) -> anyhow::Result<()> {
    let mut command = tokio::process::Command::from(command);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(deadline, output)
        .await
        .with_context(|| format!("cannot {what}: no end after {deadline:?}"))?
        .with_context(|| format!("cannot {what}"))?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("cannot {what} ({}):\n{}", output.status, String::from_utf8_lossy(&text).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn jdk(folder: &Path, name: &str, version: &str) -> PathBuf {
        let home = folder.join(name);
        std::fs::create_dir_all(home.join("bin")).unwrap();
        std::fs::write(home.join("release"), format!("IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"{version}\"\n"))
            .unwrap();
        let program = home.join("bin/java");
        std::fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn versions_are_read_as_java_words_them() {
        assert_eq!(version_in_answer("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK…"), Some(17));
        assert_eq!(version_in_answer("Picked up X\njava version \"1.8.0_402\"\n"), Some(8));
        assert_eq!(version_in_answer("The operation couldn’t be completed."), None);
        assert_eq!(version_in_release("A=1\nJAVA_VERSION=\"21\"\n"), Some(21));
        assert_eq!(feature_version("25-ea"), Some(25));
        assert_eq!(feature_version("unknown"), None);
    }

    #[tokio::test]
    async fn java_17_is_found_where_a_newer_one_stands_first() {
        let dir = tempfile::tempdir().unwrap();
        let newest = jdk(dir.path(), "a-25", "25.0.3");
        jdk(dir.path(), "b-11", "11.0.2");
        let wanted = jdk(dir.path(), "c-17", "17.0.15");
        let places = Places {
            java_home: Some(dir.path().join("a-25")),
            path: Some(newest.parent().unwrap().into()),
            folders: vec![dir.path().to_owned()],
            ..Default::default()
        };
        assert_eq!(find(&places).await.unwrap(), Java { program: wanted, version: 17 });
    }

    #[tokio::test]
    async fn java_11_serves_where_there_is_no_17_but_not_for_kafka_4() {
        let dir = tempfile::tempdir().unwrap();
        jdk(dir.path(), "21", "21.0.1");
        jdk(dir.path(), "11", "11.0.2");
        let places = Places { folders: vec![dir.path().to_owned()], ..Default::default() };
        let java = find(&places).await.unwrap();
        assert_eq!(java.version, 11);
        assert!(java.check_runs_kafka_4().unwrap_err().to_string().contains("--kafka zookeeper"));
    }

    #[tokio::test]
    async fn a_java_without_a_release_file_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let program = jdk(dir.path(), "jdk", "99");
        std::fs::remove_file(dir.path().join("jdk/release")).unwrap();
        std::fs::write(&program, "#!/bin/sh\necho 'openjdk version \"17.0.1\"' >&2\n").unwrap();
        let places = Places { path: Some(program.parent().unwrap().into()), ..Default::default() };
        assert_eq!(find(&places).await.unwrap().version, 17);
    }

    #[tokio::test]
    async fn an_unsuitable_iotctl_java_is_refused_and_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        jdk(dir.path(), "17", "17.0.15");
        let named = jdk(dir.path(), "25", "25.0.3");
        let places = Places {
            iotctl_java: Some(named.clone()),
            folders: vec![dir.path().to_owned()],
            ..Default::default()
        };
        let error = find(&places).await.unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().starts_with(&format!("IOTCTL_JAVA={}: this is Java 25", named.display())));
    }

    #[tokio::test]
    async fn a_machine_without_a_suitable_java_is_told_what_it_has_and_what_to_install() {
        let dir = tempfile::tempdir().unwrap();
        jdk(dir.path(), "25", "25.0.3");
        let places = Places { folders: vec![dir.path().to_owned()], ..Default::default() };
        let error = find(&places).await.unwrap_err().to_string();
        assert!(error.contains("here is only 25 at") && error.contains("openjdk-17-jdk"), "{error}");
        let error = find(&Places::default()).await.unwrap_err().to_string();
        assert!(error.contains("there is none here"), "{error}");
    }
}
