//! Free ports, and the proof that it is our own process that listens on one.

use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::sync::{LazyLock, Mutex};

/// Below the range that the kernel gives to outgoing connections, so that none of those takes a port in between.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

static HANDED_OUT: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port of the loopback address that nobody listens on and that no other test of this process was given.
pub fn free() -> u16 {
    let mut handed_out = HANDED_OUT.lock().expect("no test panics while it holds the lock");
    loop {
        let random = getrandom::u32().expect("the kernel gives random numbers");
        let span = u32::from(RANGE.end - RANGE.start);
        let port = RANGE.start + u16::try_from(random % span).expect("the span fits a port number");
        if !handed_out.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            handed_out.insert(port);
            return port;
        }
    }
}

/// Whether the process itself holds the listening socket of a port.
pub fn is_listening(pid: u32, port: u16) -> bool {
    let inodes = listening_inodes(port);
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
        .any(|target| {
            inodes
                .iter()
                .any(|inode| target.as_os_str() == format!("socket:[{inode}]").as_str())
        })
}

/// The inodes of the sockets that listen on a port, by `/proc/net/tcp` (state 0A is LISTEN, the 10th column the inode).
fn listening_inodes(port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| {
            table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .filter(|columns| {
                    columns.get(1).is_some_and(|local| local.ends_with(&suffix)) && columns.get(3) == Some(&"0A")
                })
                .filter_map(|columns| columns.get(9).map(|inode| (*inode).to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
}
