//! A server of a test's own that listens on one port and writes a log.
//!
//! Invariant: nothing is said to the port before the server that we started is seen to hold it.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::ports;

/// Long, because tests share the machine, and some servers read much before they serve.
const BOOT_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(25);

/// Starts one as `process`, and returns when it listens. What it writes is added to the log.
pub fn boot(command: &mut Command, process: &mut Option<Child>, name: &str, port: u16, log: &Path) {
    let out = File::options().create(true).append(true).open(log);
    let out = out.expect("a log can be written");
    let second = out.try_clone().expect("a descriptor can be copied");
    let child = command.stdin(Stdio::null()).stdout(out).stderr(second).spawn();
    // Kept at once: whoever drops it ends it, also where it never listens.
    let process = process.insert(child.expect("the server runs here"));
    let deadline = Instant::now() + BOOT_TIMEOUT;
    while !ports::is_listening(process.id(), port) {
        let ended = process.try_wait().ok().flatten();
        assert!(ended.is_none(), "{name} ended with {ended:?}\n{}", said(log));
        assert!(Instant::now() < deadline, "{name} does not listen\n{}", said(log));
        thread::sleep(POLL);
    }
}

/// What it has written so far.
pub fn said(log: &Path) -> String {
    fs::read(log).map_or(String::new(), |text| String::from_utf8_lossy(&text).into_owned())
}
