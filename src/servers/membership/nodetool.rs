//! What nodetool says when it fails. Its error stands between log lines, advice and a stack trace.

use std::process::Output;

/// The line that says why nodetool failed, without its prefix.
pub fn reason(output: &Output) -> String {
    let said = [&output.stderr[..], &output.stdout[..]].map(String::from_utf8_lossy);
    let lines = || said.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty());
    let after = |prefix: &str| lines().find_map(|line| line.strip_prefix(prefix)).map(str::trim);
    after("error:")
        .or_else(|| after("nodetool:"))
        .or_else(|| lines().rfind(|line| !is_noise(line)))
        .map_or_else(|| format!("nodetool gives no reason ({})", output.status), str::to_owned)
}

/// Log lines of the JVM and its libraries, nodetool's advice, and stack traces.
fn is_noise(line: &str) -> bool {
    const LEVELS: [&str; 6] = ["TRACE", "DEBUG", "INFO", "WARN", "WARNING:", "[main]"];
    const STARTS: [&str; 7] =
        ["at ", "-- StackTrace --", "See 'nodetool help'", "Picked up ", "SLF4J", "OpenJDK ", "Caused by"];
    LEVELS.contains(&line.split_whitespace().next().unwrap_or_default())
        || STARTS.iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn reason_of(stdout: &str, stderr: &str) -> String {
        let status = ExitStatus::from_raw(2 << 8);
        reason(&Output { status, stdout: stdout.into(), stderr: stderr.into() })
    }

    #[test]
    fn a_refusal_is_quoted_by_its_error_line() {
        let log = "WARN  [main] 2026-11-25 20:20:40,000 ClassSubset.java:99 - cannot map\n";
        let refusal = "nodetool: Unsupported operation: Not enough live nodes to maintain replication factor in keyspace \
                       readings (RF = 3, N = 3). Perform a forceful decommission to ignore.\nSee 'nodetool help' or \
                       'nodetool help <command>'.\n";
        assert!(
            reason_of(&format!("{log}{refusal}"), "").starts_with("Unsupported operation: Not enough live")
        );
        let trace = "error: Stream failed\n-- StackTrace --\njava.lang.RuntimeException: Stream failed\n\tat a.b(C.java:1)\n";
        assert_eq!(reason_of(log, trace), "Stream failed");
    }

    #[test]
    fn without_an_error_line_the_last_line_of_substance_is_the_reason() {
        assert_eq!(
            reason_of("", "INFO  [main] hello\nConnection refused\n\tat a.b(C.java:1)\n"),
            "Connection refused"
        );
        assert!(reason_of("", "WARN  [main] hello\n").starts_with("nodetool gives no reason (exit"));
    }
}
