//! `iotctl config init`: a commented file with every setting at its default, made from the declarations.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::keys::{OTHER_VARIABLES, SECTIONS};
use super::section::Key;
use super::settings::Settings;
use super::value::Kind;

const HEADER: &str = "\
# The configuration of iotctl.
#
# Each setting is shown at its default, commented out: remove the `#` before a name to change it. An empty text means
# \"not set\". Durations are written like 500ms, 1h 30m or 90d, sizes like 64KiB, 1MiB or 4GiB. Relative paths are
# relative to the folder of this file. If you add a password, make the file readable by its owner only (chmod 600).
#
# iotctl reads --config FILE, else the file that the variable IOTCTL_CONFIG names, else ./iotctl.toml, else
# iotctl/iotctl.toml in the user's config folder. Variables such as IOTCTL_KAFKA_TOPIC (lists: a,b; tables: a=b,c=d)
# override the file, and flags such as --topic or -O kafka.topic=NAME override both. `iotctl config show` prints the
# settings in force and the source of each.
";

/// Columns of a line, less than the 120 of a wide terminal.
const WIDTH: usize = 118;

/// The text of the file.
pub fn template() -> String {
    let defaults = Settings::defaults().into_effective();
    let default_of = |key: &Key| defaults.iter().find(|setting| setting.key == key.name)?.value.as_ref();
    let mut text = HEADER.to_owned();
    text.push_str("#\n# Other variables:\n");
    for (variable, about) in OTHER_VARIABLES {
        text.push_str(&format!("#   {variable}: {about}\n"));
    }
    for section in SECTIONS {
        text.push('\n');
        push_comment(&mut text, section.about);
        text.push_str(&format!("[{}]\n", section.name));
        for key in section.keys {
            let empty = if matches!(key.kind, Kind::Map(_)) { "{}" } else { "\"\"" };
            let value = default_of(key).map_or_else(|| empty.to_owned(), toml::Value::to_string);
            push_comment(&mut text, &format!("{}{}", key.about, allowed(&key.kind)));
            // If the section itself is a map, its heading shows an entry.
            if !key.split().1.is_empty() {
                text.push_str(&format!("#{} = {value}\n", key.split().1));
            }
        }
    }
    text
}

/// The bounds or choices, if there are any.
fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::Whole { .. } | Kind::Duration { .. } | Kind::Size { .. } | Kind::Choice(_) => {
            let allowed = kind.to_string();
            format!(" {}{}.", allowed[..1].to_uppercase(), &allowed[1..])
        }
        _ => String::new(),
    }
}

fn push_comment(text: &mut String, comment: &str) {
    let mut width = usize::MAX;
    for word in comment.split(' ') {
        if width.saturating_add(word.len() + 1) > WIDTH {
            text.push_str(if width == usize::MAX { "#" } else { "\n#" });
            width = 1;
        }
        text.push(' ');
        text.push_str(word);
        width += word.len() + 1;
    }
    text.push('\n');
}

/// Permissions of the file: services read what is below /etc, often as another user, and the file holds no secret.
/// Elsewhere it belongs to one user, who may add a password later.
fn mode(path: &Path) -> u32 {
    let is_for_services = std::path::absolute(path).is_ok_and(|path| path.starts_with("/etc"));
    if is_for_services { 0o644 } else { 0o600 }
}

/// Writes the file. Fails with `AlreadyExists` if there is one, unless `overwrite`, and with `NotFound` if the folder
/// does not exist.
pub fn write(path: &Path, overwrite: bool) -> io::Result<()> {
    let mode = mode(path);
    let mut options = OpenOptions::new();
    options.write(true).mode(mode);
    if overwrite {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path)?;
    // The mode above is for a new file, and without the bits that the umask clears.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(template().as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Origin, Sources};

    /// The template with every setting uncommented.
    fn uncommented() -> String {
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|first: char| first.is_ascii_lowercase()) => {
                setting.to_owned()
            }
            _ => line.to_owned(),
        };
        template().lines().map(|line| uncomment(line) + "\n").collect()
    }

    #[test]
    fn the_file_has_every_key_of_the_struct() {
        let table: toml::Table = uncommented().parse().unwrap();
        let fields = serde_json::to_value(Config::default()).unwrap();
        assert_same_keys(&fields, &serde_json::to_value(table).unwrap(), "");
    }

    fn assert_same_keys(fields: &serde_json::Value, written: &serde_json::Value, prefix: &str) {
        let (Some(fields), Some(written)) = (fields.as_object(), written.as_object()) else { return };
        let names =
            |map: &serde_json::Map<String, serde_json::Value>| map.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(written), names(fields), "in [{prefix}]");
        for (name, value) in fields {
            assert_same_keys(value, &written[name], &format!("{prefix}.{name}"));
        }
    }

    #[test]
    fn the_file_changes_nothing_even_with_all_its_settings_uncommented() {
        let folder = tempfile::tempdir().unwrap();
        for text in [template(), uncommented()] {
            let path = folder.path().join("iotctl.toml");
            std::fs::write(&path, &text).unwrap();
            let sources = Sources { file: Some(path), flags: Vec::new() };
            let loaded = crate::config::load::from_file_alone(&sources).unwrap();
            assert_eq!(loaded.config, Config::default());
            let from_file =
                loaded.effective.iter().filter(|setting| setting.origin != Origin::Default).count();
            // An empty table has no line of its own.
            assert_eq!(
                from_file,
                if text == template() { 0 } else { crate::config::keys::all().count() - 3 }
            );
        }
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_not_overwritten_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iotctl.toml");
        write(&path, false).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "mine").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(write(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        write(&path, true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), template());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_below_etc_can_be_read_by_services_and_any_other_by_its_owner_alone() {
        for (path, expected) in [
            ("/etc/iotctl/iotctl.toml", 0o644),
            ("/etc/iotctl.toml", 0o644),
            ("/home/ann/etc/iotctl.toml", 0o600),
            ("/etcetera/iotctl.toml", 0o600),
            ("iotctl.toml", 0o600),
        ] {
            assert_eq!(mode(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_missing_folder_is_an_error_and_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/iotctl.toml");
        assert_eq!(write(&path, true).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!folder.path().join("etc").exists());
    }

    #[test]
    fn no_line_of_the_file_is_wider_than_a_screen() {
        let widest = template().lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(120), "{widest:?}");
    }
}
