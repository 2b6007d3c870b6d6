use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::token::{Entry, check_name};
use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn file() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    (folder, path)
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_file_holds_the_hash_of_a_token_and_never_the_token() {
    let (_folder, path) = file();
    let token = token::add(&path, "ada", Role::Operator).unwrap();
    assert!(token.len() > 45 && token.starts_with("iotctl_"), "{token}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(&token[7..]), "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // By another implementation: printf TOKEN | sha256sum.
    let known = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let tokens = Tokens::parse(&format!("  # people\n\nbob viewer {known}\n")).unwrap();
    let bob = tokens.find("test").unwrap();
    assert_eq!((bob.name.as_str(), bob.role), ("bob", Role::Viewer));
    for wrong in ["", "Test", "test ", known, &"t".repeat(10_000)] {
        assert_eq!(tokens.find(wrong), None, "{wrong}");
    }
}

#[test]
fn names_are_unique_and_what_is_removed_is_gone_and_the_rest_stays() {
    let (_folder, path) = file();
    let (ada, bob) =
        (token::add(&path, "ada", Role::Operator).unwrap(), token::add(&path, "bob", Role::Viewer).unwrap());
    mode(&path, 0o640);
    let error = token::add(&path, "ada", Role::Viewer).unwrap_err().to_string();
    assert!(error.contains("ada has a token already"), "{error}");
    let login = Login::read(path.clone()).unwrap();
    assert_eq!(login.by_token(&ada, HERE).unwrap().role, Role::Operator);
    token::remove(&path, "ada").unwrap();
    assert_eq!(login.by_token(&ada, HERE), Err(Denied::Wrong));
    assert_eq!(login.by_token(&bob, HERE).unwrap().name, "bob");
    assert!(token::remove(&path, "ada").unwrap_err().to_string().contains("no token called"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Tokens") && text.lines().count() == 2, "{text}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_file_that_others_read_or_that_is_not_well_formed_is_refused_with_the_remedy() {
    let (_folder, path) = file();
    let refused = || Tokens::read(&path).unwrap_err().to_string();
    assert!(refused().contains("token add"), "{}", refused());
    token::add(&path, "ada", Role::Viewer).unwrap();
    for (bits, is_good) in
        [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o602, false)]
    {
        mode(&path, bits);
        assert_eq!(Tokens::read(&path).is_ok(), is_good, "{bits:o}");
    }
    assert!(refused().contains("chmod 600"), "{}", refused());
    let hash = "ab".repeat(32);
    for (text, expected) in [
        ("ada viewer\n".to_owned(), "line 1: it has 2 fields"),
        (format!("\nada admin sha256:{hash}"), "line 2: its role"),
        (format!("ada viewer {hash}"), "line 1: its hash"),
        (format!("ada viewer sha256:{}+f", &hash[2..]), "line 1: its hash"),
        (format!("ada viewer sha256:{}é", &hash[2..]), "line 1: its hash"),
        (format!("-ada viewer sha256:{hash}"), "line 1: its name"),
        (format!("a viewer sha256:{hash}\na operator sha256:{hash}"), "line 2: its name is that of line 1"),
    ] {
        let error = Tokens::parse(&text).unwrap_err();
        assert!(error.contains(expected) && !error.contains(&hash), "{error}");
    }
    assert!(check_name("ada.l@plant-3").is_ok() && check_name(&"a".repeat(65)).is_err());
}

#[test]
fn a_changed_file_is_read_again_and_an_unusable_one_lets_nobody_in() {
    let (_folder, path) = file();
    let ada = token::add(&path, "ada", Role::Viewer).unwrap();
    let login = Login::read(path.clone()).unwrap();
    let identity = login.by_token(&ada, HERE).unwrap();
    let session = login.begin_session(&identity);
    assert_eq!(login.by_session(&session.id).unwrap(), (identity, session.csrf.clone()));
    // Another role is in force at once, for the session too.
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(" viewer ", " operator ")).unwrap();
    assert_eq!(login.by_session(&session.id).unwrap().0.role, Role::Operator);
    mode(&path, 0o666);
    assert_eq!(login.by_token(&ada, HERE), Err(Denied::Unusable));
    assert_eq!(login.by_session(&session.id), Err(Denied::Unusable));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(login.by_token(&ada, HERE), Err(Denied::Unusable));
    std::fs::write(&path, text).unwrap();
    mode(&path, 0o600);
    assert_eq!(login.by_token(&ada, HERE).unwrap().role, Role::Viewer);
    token::remove(&path, "ada").unwrap();
    assert_eq!(login.by_session(&session.id), Err(Denied::Wrong));
}

#[test]
fn wrong_tokens_are_counted_and_then_not_looked_at() {
    let (_folder, path) = file();
    let ada = token::add(&path, "ada", Role::Viewer).unwrap();
    let login = Login::read(path).unwrap();
    for _ in 0..10 {
        assert_eq!(login.by_token("guess", HERE), Err(Denied::Wrong));
    }
    assert!(matches!(login.by_token(&ada, HERE), Err(Denied::TooMany(_))));
    let other = IpAddr::from([10, 0, 0, 9]);
    assert!(login.by_token(&ada, other).is_ok());
    let counted = |result: &str| login.attempts().with_label_values(&[result]).get();
    assert_eq!((counted("refused"), counted("limited"), counted("accepted")), (10, 1, 1));
}

/// Which entry matches must not show in the time, so none is left out after a match: the last one counts.
#[test]
fn every_entry_is_compared_even_after_a_match() {
    let hash = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let tokens = Tokens::parse(&format!("first viewer {hash}\nlast operator {hash}\n")).unwrap();
    assert_eq!(
        tokens.entries().iter().map(|entry: &Entry| entry.name.as_str()).collect::<Vec<_>>(),
        ["first", "last"]
    );
    assert_eq!(tokens.find("test").unwrap().name, "last");
}
