//! Finds the commit for `iotctl --version`: BUILD_COMMIT where it is set (packages, images), else git's, else none.
//! The name does not begin with IOTCTL_, because cargo passes it on to what it runs, where it would be a setting.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=BUILD_COMMIT");
    // Set already, the variable reaches the compiler by itself.
    if std::env::var_os("BUILD_COMMIT").is_some() || !Path::new(".git").exists() {
        return;
    }
    let Some(commit) = git(&["rev-parse", "--short=7", "HEAD"]) else { return };
    println!("cargo:rustc-env=BUILD_COMMIT={commit}");
    // HEAD changes with the branch, the branch's file with each commit; a branch without a file is in packed-refs. A path
    // that does not exist would run this script on every build.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]).and_then(|branch| path_of(&branch));
    for path in [path_of("HEAD"), branch.or_else(|| path_of("packed-refs"))].into_iter().flatten() {
        println!("cargo:rerun-if-changed={path}");
    }
}

/// The file of a reference, where there is one.
fn path_of(name: &str) -> Option<String> {
    git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists())
}

/// What git prints, or `None` without git or outside a repository.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
