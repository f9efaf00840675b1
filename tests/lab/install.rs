//! The product on a host: its package, installed as an operator does; its configuration; what it says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cluster::Cluster;
use super::hosts::{Done, Host};
use super::packing::{Kind, Release, package};

/// The name of the cluster in the configuration.
pub const CLUSTER: &str = "lab";
/// The name of the package.
pub const NAME: &str = "etcd-lifeboat";
/// The agent's unit.
pub const UNIT: &str = "lifeboat.service";
/// The default destination.
pub const STORE: &str = "/var/backups/lifeboat";
/// What the agent remembers.
pub const STATE: &str = "/var/lib/lifeboat";
/// The identity that opens the backups, on the first host.
pub const IDENTITY: &str = "/root/backup-key.txt";
/// The configuration.
pub const CONFIG: &str = "/etc/lifeboat/config.toml";
/// Where the package is laid on a host.
const DEB: &str = "/var/cache/etcd-lifeboat.deb";

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

/// Installs the package.
#[track_caller]
pub fn install_on(host: &Host) {
    apt_install(host, Release::Present);
}

/// Installs a release of the package, or upgrades to it. There is nobody to answer a question.
#[track_caller]
pub fn apt_install(host: &Host, release: Release) {
    host.copy_in(&package(Kind::Deb, release), DEB);
    apt(host, ["install", DEB]).expect_code(0);
}

/// Runs a command of apt's. Hosts reach no mirror, so it has what is on the host.
#[track_caller]
pub fn apt<'a>(host: &Host, args: impl IntoIterator<Item = &'a str>) -> Done {
    // What a package is worth after a power cut in the middle of its installation is dpkg's affair.
    let quickly = ["apt-get", "--quiet", "--yes", "-o", "Dpkg::Options::=--force-unsafe-io"];
    host.run_any(quickly.into_iter().chain(args))
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
