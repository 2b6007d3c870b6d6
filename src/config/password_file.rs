//! Passwords from files: the first line, without its line ending.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Secret;

/// Longer passwords are refused, so that a file named by mistake is not read.
const MAX_BYTES: u64 = 4096;

/// Reads the password. Warns if every user of the machine can read the file.
pub(crate) fn read(path: &Path) -> Result<Secret, String> {
    let file = File::open(path).map_err(reason)?;
    let metadata = file.metadata().map_err(reason)?;
    warn_if_exposed(path, &metadata);
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(reason)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() as u64 > MAX_BYTES {
        return Err(format!("its first line has over {MAX_BYTES} bytes"));
    }
    match std::str::from_utf8(line) {
        Ok("") => Err("its first line is empty".to_owned()),
        Ok(password) if password.contains('\0') => Err("its first line contains a zero byte".to_owned()),
        Ok(password) => Ok(Secret::new(password)),
        Err(_) => Err("its first line is not UTF-8".to_owned()),
    }
}

/// Warns if a file with a secret is readable by every user of the machine. Its group may read it: that is how a service
/// that runs as another user gets it, and systemd's credentials look like this.
pub(crate) fn warn_if_exposed(path: &Path, metadata: &std::fs::Metadata) {
    let mode = metadata.permissions().mode();
    if metadata.is_file() && mode & 0o004 != 0 {
        tracing::warn!(
            "{} contains a password and is readable by every user (chmod 600 {})",
            path.display(),
            path.display()
        );
    }
}

fn reason(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => "no permission".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(content: &[u8]) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, content).unwrap();
        read(&path).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_password_is_the_first_line_without_its_end() {
        assert_eq!(password(b"hunter2\n").unwrap(), "hunter2");
        assert_eq!(password(b" hunter 2 \r\nsecond line\n").unwrap(), " hunter 2 ");
        assert_eq!(password(b"hunter2").unwrap(), "hunter2");
    }

    #[test]
    fn a_file_without_a_password_is_refused() {
        assert_eq!(password(b"").unwrap_err(), "its first line is empty");
        assert_eq!(password(b"\nhunter2").unwrap_err(), "its first line is empty");
        assert_eq!(password(b"\xff\n").unwrap_err(), "its first line is not UTF-8");
        assert_eq!(password(b"a\0b\n").unwrap_err(), "its first line contains a zero byte");
        assert_eq!(password(&[b'x'; 5000]).unwrap_err(), "its first line has over 4096 bytes");
        assert_eq!(read(Path::new("/nowhere/password")).unwrap_err(), "it does not exist");
        assert_eq!(read(Path::new("/")).unwrap_err(), "it is a directory");
    }
}
