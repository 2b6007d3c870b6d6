//! Tokens, and the file of their hashes.
//!
//! A token is 256 random bits, so that its SHA-256 is enough: nobody can guess what it stands for, and slow hashes protect
//! what people choose. The file has one token per line, `NAME ROLE sha256:HEX`, and comments that begin with `#`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use super::{Identity, Role};
use crate::encoding::hex;

/// What each token begins with, so that scanners for secrets find one that was left somewhere.
const PREFIX: &str = "iotctl_";
const RANDOM_BYTES: usize = 32;
/// In bytes. What is longer is not a token.
const MAX_TOKEN: usize = 256;
const MAX_NAME: usize = 64;
const MAX_TOKENS: usize = 10_000;
/// In bytes.
const MAX_FILE: u64 = 2 << 20;
const HEADER: &str = "# Tokens for iotctl's HTTP servers: NAME ROLE HASH. `iotctl token add` and `iotctl token remove` write it.\n";

/// The SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii())?;
        let mut hash = [0; 32];
        for (index, byte) in hash.iter_mut().enumerate() {
            let digits = hex.get(2 * index..2 * index + 2)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(hash))
    }

    fn text(&self) -> String {
        format!("sha256:{}", hex(&self.0))
    }
}

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub role: Role,
    hash: Hash,
}

impl Entry {
    /// # Errors
    /// What is wrong with the line.
    fn parse(line: &str) -> Result<Self, String> {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [name, role, hash] = fields[..] else {
            return Err(format!("it has {} fields and not 3 (write NAME ROLE HASH)", fields.len()));
        };
        check_name(name)?;
        let role = match role {
            "viewer" => Role::Viewer,
            "operator" => Role::Operator,
            _ => return Err("its role is not known (write viewer or operator)".to_owned()),
        };
        // The text is not repeated: somebody may have put the token itself there.
        let hash = Hash::parse(hash)
            .ok_or("its hash is not sha256: and 64 hexadecimal digits (`iotctl token add` makes one)")?;
        Ok(Self { name: name.to_owned(), role, hash })
    }

    fn line(&self) -> String {
        format!("{} {} {}\n", self.name, self.role, self.hash.text())
    }

    fn identity(&self) -> Identity {
        Identity { name: self.name.clone(), role: self.role, hash: self.hash }
    }
}

/// Whether a token may have this name.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    let is_good = (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(is_plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    match is_good {
        true => Ok(()),
        false => Err(format!(
            "its name is not one (use 1 to {MAX_NAME} of a-z, A-Z, 0-9, ., _, @ and -, with a letter or digit first)"
        )),
    }
}

/// A new token for a person or a program.
///
/// # Errors
/// The system has no random numbers.
pub fn random() -> io::Result<String> {
    Ok(format!("{PREFIX}{}", random_text()?))
}

/// 256 random bits as text.
pub(super) fn random_text() -> io::Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// A file of tokens that cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot use the tokens of {}: {reason}", path.display())]
pub struct TokensError {
    pub path: PathBuf,
    /// With the remedy.
    pub reason: String,
}

/// The tokens of a file.
#[derive(Debug, Default)]
pub struct Tokens {
    entries: Vec<Entry>,
}

impl Tokens {
    /// # Errors
    /// The file is missing or not well formed, or others than its owner and group may read it, or others than its owner
    /// write it.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let read = File::open(path).map_err(|error| reason(&error)).and_then(|file| Self::of(&file, path));
        read.map_err(|reason| TokensError { path: path.to_owned(), reason })
    }

    fn of(file: &File, path: &Path) -> Result<Self, String> {
        let metadata = file.metadata().map_err(|error| reason(&error))?;
        if !metadata.is_file() {
            return Err("it is not a file".to_owned());
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o027 != 0 {
            return Err(format!(
                "its mode is {mode:03o}, so others can read or change it (chmod 600 {}, or 640 for a group that reads it)",
                path.display()
            ));
        }
        let mut text = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| reason(&error))?;
        if text.len() as u64 > MAX_FILE {
            return Err(format!("it has over {MAX_FILE} bytes (is it the right file?)"));
        }
        Self::parse(
            std::str::from_utf8(&text).map_err(|_| "it is not UTF-8 (is it the right file?)".to_owned())?,
        )
    }

    /// # Errors
    /// The line at fault, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut names = std::collections::HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = Entry::parse(line).map_err(|reason| format!("line {number}: {reason}"))?;
            if let Some(first) = names.insert(entry.name.clone(), number) {
                return Err(format!("line {number}: its name is that of line {first} (remove one of them)"));
            }
            entries.push(entry);
            if entries.len() > MAX_TOKENS {
                return Err(format!("it has over {MAX_TOKENS} tokens (remove those that are not used)"));
            }
        }
        Ok(Self { entries })
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whose token it is. Every entry is compared as a whole, whichever matches.
    pub(super) fn find(&self, token: &str) -> Option<Identity> {
        match token.is_empty() || token.len() > MAX_TOKEN {
            true => None,
            false => self.known(&Hash::of(token)),
        }
    }

    pub(super) fn known(&self, hash: &Hash) -> Option<Identity> {
        // One past the entries is nobody.
        let mut found = u64::MAX;
        for (index, entry) in (0..).zip(&self.entries) {
            let is_equal: Choice = entry.hash.0.ct_eq(&hash.0);
            found.conditional_assign(&index, is_equal);
        }
        usize::try_from(found).ok().and_then(|index| self.entries.get(index)).map(Entry::identity)
    }
}

/// Whether a file has this token.
///
/// # Errors
/// The file cannot be used.
pub fn is_known(path: &Path, token: &str) -> Result<bool, TokensError> {
    Ok(Tokens::read(path)?.find(token).is_some())
}

/// Whether a file has a token of this name.
///
/// # Errors
/// The file cannot be used.
pub fn has_name(path: &Path, name: &str) -> Result<bool, TokensError> {
    Ok(Tokens::read(path)?.entries.iter().any(|known| known.name == name))
}

/// Adds a new token to a file, which is created if it is missing. Returns the token, which is kept nowhere.
///
/// # Errors
/// The file cannot be used or written, or has a token of this name.
pub fn add(path: &Path, name: &str, role: Role) -> Result<String, TokensError> {
    let refused = |reason: String| TokensError { path: path.to_owned(), reason };
    check_name(name).map_err(refused)?;
    let token = random().map_err(|error| refused(reason(&error)))?;
    let entry = Entry { name: name.to_owned(), role, hash: Hash::of(&token) };
    change(path, |text, tokens| {
        if tokens.entries.iter().any(|known| known.name == name) {
            return Err(format!(
                "{name} has a token already (choose another name, or `iotctl token remove {name}` first)"
            ));
        }
        let mut text = if text.is_empty() { HEADER.to_owned() } else { text.to_owned() };
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&entry.line());
        Ok(text)
    })
    .map_err(refused)?;
    Ok(token)
}

/// Removes the token of this name.
///
/// # Errors
/// The file cannot be used or written, or has no such token.
pub fn remove(path: &Path, name: &str) -> Result<(), TokensError> {
    let is_it = |line: &str| {
        !line.trim_start().starts_with('#') && line.split_ascii_whitespace().next() == Some(name)
    };
    change(path, |text, tokens| {
        if !tokens.entries.iter().any(|known| known.name == name) {
            return Err(format!("it has no token called {name:?} (`iotctl token list` shows the names)"));
        }
        Ok(text.split_inclusive('\n').filter(|line| !is_it(line)).collect())
    })
    .map_err(|reason| TokensError { path: path.to_owned(), reason })
}

/// Replaces the file by what `edit` makes of it, in one step: a server reads the old one or the new one. Two commands at
/// once wait for each other.
fn change(path: &Path, edit: impl FnOnce(&str, &Tokens) -> Result<String, String>) -> Result<(), String> {
    let said = |error: io::Error| reason(&error);
    // Where it is a link, what it points to.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = File::open(folder).map_err(|error| format!("its folder: {}", reason(&error)))?;
    lock.lock().map_err(said)?;
    let (text, mode) = match File::open(&path) {
        Ok(file) => {
            Tokens::of(&file, &path)?;
            let mode = file.metadata().map_err(said)?.permissions().mode() & 0o777;
            (std::fs::read_to_string(&path).map_err(said)?, mode)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (String::new(), 0o600),
        Err(error) => return Err(said(error)),
    };
    let new = edit(&text, &Tokens::parse(&text)?)?;
    let temporary = folder.join(format!(".{}.iotctl-{}", name_of(&path), std::process::id()));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(new.as_bytes())?;
        // A service that reads it as a member of its group goes on to.
        if let Ok(old) = std::fs::metadata(&path) {
            use std::os::unix::fs::MetadataExt as _;
            if let Err(error) = std::os::unix::fs::chown(&temporary, Some(old.uid()), Some(old.gid())) {
                tracing::warn!(%error, "the file of tokens has another owner or group than before");
            }
        }
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        said(error)
    })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "it does not exist (`iotctl token add NAME --role viewer` creates it)".to_owned()
        }
        io::ErrorKind::PermissionDenied => "no permission (give this user access to it)".to_owned(),
        _ => error.to_string(),
    }
}
