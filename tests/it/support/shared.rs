//! One server for all tests that only read from it.
//!
//! A static is never dropped, so a shell that waits for the end of this process kills the server and removes its files.

use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use super::etcd::{Etcd, Options};
use super::load::Load;
use super::tools::Version;

/// How many values of [`VALUE_BYTES`] the server holds besides the load: enough for a stream to have a middle.
const VALUES: usize = 128;
const VALUE_BYTES: usize = 64 << 10;

/// One value consists of this byte only.
pub const PATTERN: u8 = b'x';

struct Shared {
    etcd: Etcd,
    _watchdog: Child,
}

static SHARED: LazyLock<Option<Shared>> = LazyLock::new(start);

/// A server with some megabytes that no test changes, or `None` after saying that the test is skipped.
pub fn unchanging() -> Option<&'static Etcd> {
    SHARED.as_ref().map(|shared| &shared.etcd)
}

fn start() -> Option<Shared> {
    let etcd = Etcd::start(Version::V3_6, Options::default())?;
    let watchdog = Command::new("sh")
        .args(["-c", "read -r never; kill -9 \"$0\"; rm -rf \"$1\""])
        .arg(etcd.pid(0).to_string())
        .arg(etcd.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let client = etcd.client();
    let mut load = Load::new(1);
    load.run(&client, 100);
    load.compact(&client);
    for number in 0..VALUES {
        let mut value = vec![0; VALUE_BYTES];
        getrandom::fill(&mut value).expect("the kernel gives random numbers");
        client
            .put(&format!("/random/{number:03}"), value, 0)
            .expect("a healthy server takes a put");
    }
    client
        .put("/pattern", vec![PATTERN; VALUE_BYTES], 0)
        .expect("a healthy server takes a put");
    Some(Shared {
        etcd,
        _watchdog: watchdog,
    })
}
