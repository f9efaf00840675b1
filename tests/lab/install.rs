//! The product on a host: binary, units, user and directories put there by hand as a package would; its configuration;
//! what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cluster::Cluster;
use super::hosts::{Done, Host};

/// The name of the cluster in the configuration.
pub const CLUSTER: &str = "lab";
/// The agent's unit.
pub const UNIT: &str = "lifeboat.service";
/// The default destination.
pub const STORE: &str = "/var/backups/lifeboat";
/// What the agent remembers.
pub const STATE: &str = "/var/lib/lifeboat";
/// The identity that opens the backups, on the first host.
pub const IDENTITY: &str = "/root/backup-key.txt";
const CONFIG: &str = "/etc/lifeboat/config.toml";

/// Installs the product on every host of a cluster, with one identity and one configuration; `more` is added to that.
/// Nothing is started.
pub fn install(cluster: &Cluster, more: &str) {
    for host in &cluster.hosts {
        install_on(host);
    }
    let made = cluster.hosts[0].run(["lifeboat", "keygen", "--identity", IDENTITY]);
    let (members, recipient) = (cluster.members(), made.stdout.trim());
    let text = format!(
        "[cluster]\nname = \"{CLUSTER}\"\n{members}[encryption]\nrecipients = [\"{recipient}\"]\n\
         [destinations.local]\nurl = \"file://{STORE}\"\n{more}"
    );
    for host in &cluster.hosts {
        host.write(CONFIG, &text);
    }
}

/// Puts the binary, the units, the user and the directories there.
pub fn install_on(host: &Host) {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    host.copy_in(Path::new(env!("CARGO_BIN_EXE_lifeboat")), "/usr/bin/lifeboat");
    copy_files(host, &shipped, "/usr/lib/systemd/system");
    copy_files(host, &shipped.join("sysusers.d"), "/usr/lib/sysusers.d");
    copy_files(host, &shipped.join("tmpfiles.d"), "/usr/lib/tmpfiles.d");
    host.run(["systemd-sysusers", "lifeboat.conf"]);
    host.run(["systemd-tmpfiles", "--create", "lifeboat.conf"]);
    host.run(["systemctl", "daemon-reload"]);
}

/// Starts the agent now and at every boot; returns when it has said that it is ready.
#[track_caller]
pub fn enable(host: &Host) {
    host.run(["systemctl", "enable", "--now", "--quiet", UNIT]);
}

/// Puts a file beside the configuration.
pub fn drop_in(host: &Host, name: &str, text: &str) {
    host.write(&format!("/etc/lifeboat/config.d/{name}"), text);
}

/// Runs the product's command line as root.
#[track_caller]
pub fn lifeboat<'a>(host: &Host, args: impl IntoIterator<Item = &'a str>) -> Done {
    host.run_any(["lifeboat"].into_iter().chain(args))
}

/// What the agent says of itself; null as long as it has said nothing.
pub fn status(host: &Host) -> Value {
    let text = fs::read_to_string(host.path(STATE).join(CLUSTER).join("status.json"));
    serde_json::from_str(&text.unwrap_or_else(|_| "null".to_owned())).expect("it is replaced whole")
}

/// The backups that `list` shows, with a broken configuration too.
#[track_caller]
pub fn backups(host: &Host) -> Vec<Value> {
    let listed = lifeboat(host, ["--json", "list", "--all"]);
    let backups = listed.json()["backups"].as_array().cloned();
    backups.unwrap_or_else(|| panic!("no backups in the list: {listed}"))
}

/// Their ids.
#[track_caller]
pub fn ids(host: &Host) -> BTreeSet<String> {
    let id = |backup: &Value| backup["id"].as_str().expect("each has one").to_owned();
    backups(host).iter().map(id).collect()
}

/// The manifests of the backups that are there, read as the files that they are.
pub fn manifests(store: &Path) -> Vec<Value> {
    let files = files_below(store).into_iter();
    let manifests = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("full-") && name.ends_with(".json")
    });
    // One may be pruned meanwhile.
    let texts = manifests.filter_map(|path| fs::read_to_string(path).ok());
    texts
        .map(|text| serde_json::from_str(&text).expect("it is written whole"))
        .collect()
}

/// Every file below a directory, in order.
pub fn files_below(root: &Path) -> Vec<PathBuf> {
    let below = super::support::host::files_below(root).into_iter();
    below.map(|path| root.join(path)).collect()
}

fn copy_files(host: &Host, from: &Path, to: &str) {
    for entry in fs::read_dir(from).expect("it is shipped").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            host.copy_in(&entry.path(), &format!("{to}/{}", entry.file_name().to_string_lossy()));
        }
    }
}
