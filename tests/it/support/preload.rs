//! A library that stands before functions of the C library, in programs that are started with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;

/// Compiles `source` in a folder that is not there yet. Where no compiler can, says that the test of `what` is skipped and gives
/// `None`.
pub fn shim(folder: &Path, source: &str, what: &str) -> Option<PathBuf> {
    fs::create_dir(folder).expect("the test's directory can be written");
    let (text, shim) = (folder.join("shim.c"), folder.join("shim.so"));
    fs::write(&text, source).expect("the test's directory can be written");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&shim)
        .arg(&text)
        .arg("-ldl")
        .status();
    match made.is_ok_and(|status| status.success()) {
        true => Some(shim),
        false => {
            tools::skip("cc", what);
            None
        }
    }
}

/// Has a program started with such a library.
pub fn into(command: &mut Command, shim: &Path) {
    command.env("LD_PRELOAD", shim);
}
