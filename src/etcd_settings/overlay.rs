//! What a restore lays over etcd's settings, which stay the operator's.
//!
//! etcd ignores `initial-*` once its data directory is laid out, so a restored member starts with its settings as they
//! are. New cluster flags are laid on only so that an empty directory does not begin a new cluster, and only for a unit
//! that takes them all from its environment: a variable beside a flag of the same name keeps etcd from starting.
//!
//! Invariant: what is laid on names `initial-*` alone, and no file of ours holds a copy of anything of the operator's.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::flags::{ADVERTISE, CLUSTER, NAME, STATE, TOKEN, variable};
use super::unit::{EnvironmentFile, Unit};
use super::{ClusterState, Error, EtcdSettings, Given, Place, Read, discover, environment, start};
use crate::model::UnitName;

/// Where the environment files of ours are.
const FOLDER: &str = "/etc/lifeboat/restore";
/// Where the drop-ins of the host's administrator are, and ours.
const DROP_INS: &str = "/etc/systemd/system";
const SETTINGS: &str = "50-lifeboat.conf";
/// The name of the same where another drop-in would be read after it: `systemctl edit` calls its own `override.conf`.
const LAST: &str = "zz-50-lifeboat.conf";
/// A token for trying on paper whether what is laid on counts.
const ANY_TOKEN: &str = "lifeboat-0000000000000000";

/// Who is in the cluster from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCluster {
    /// This member's name.
    pub name: String,
    /// All members, as in `--initial-cluster`.
    pub initial_cluster: String,
    /// Where the others reach this member.
    pub advertise_peer_urls: Vec<String>,
}

/// How long systemd waits for etcd to be ready while the guard is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// For ever: a member of several is ready when it sees a majority of the others, whenever they are started.
    WaitsForOthers,
    /// As the unit says.
    AsBefore,
}

/// A file to be written, in place of the one of that name that we wrote before; everybody may read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Where; its folder may be missing.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

/// Cluster flags for a unit that takes them from its environment. The token may be known later than all else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// The environment file.
    pub environment_file: PathBuf,
    /// The drop-in that has it read last.
    pub drop_in: PathBuf,
    /// Which restore lays it on.
    pub restore: String,
    /// All members, as in `--initial-cluster`.
    pub initial_cluster: String,
    /// Where the others reach this member.
    pub advertise_peer_urls: Vec<String>,
}

impl Overlay {
    /// Where its files are.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.environment_file, &self.drop_in]
    }

    /// Its files for a cluster of this token, in the order in which they are to be written.
    pub fn files(&self, token: &str) -> [NewFile; 2] {
        let variables = [
            (CLUSTER, self.initial_cluster.as_str()),
            (TOKEN, token),
            (STATE, "existing"),
            (ADVERTISE, &self.advertise_peer_urls.join(",")),
        ];
        self.forward(&variables)
    }

    /// Its files before the data is exchanged: they lay on nothing yet. systemd reads the drop-in along with the guard, and
    /// not once more while etcd is down.
    pub fn files_ahead(&self) -> [NewFile; 2] {
        self.forward(&[])
    }

    /// Its files once the old data is back: etcd that finds that gone is not to begin an empty cluster in its place.
    pub fn files_of_old(&self) -> [NewFile; 2] {
        self.written(
            "the data from before it is back",
            "`lifeboat release` takes it away again",
            &[(STATE, "existing")],
        )
    }

    fn forward(&self, variables: &[(&str, &str)]) -> [NewFile; 2] {
        self.written(
            "who is in the restored cluster",
            "`lifeboat rollback` and `lifeboat release` take it away again",
            variables,
        )
    }

    fn written(&self, what: &str, ends: &str, variables: &[(&str, &str)]) -> [NewFile; 2] {
        let lines: String = variables
            .iter()
            .map(|(flag, value)| environment::line(&variable(flag), value))
            .collect();
        let head = format!(
            "# Written by etcd-lifeboat in restore {}: {what}.\n# {ends}.\n",
            self.restore
        );
        [
            NewFile {
                path: self.environment_file.clone(),
                content: format!("{head}{lines}"),
            },
            NewFile {
                path: self.drop_in.clone(),
                content: format!("{head}[Service]\nEnvironmentFile={}\n", self.environment_file.display()),
            },
        ]
    }
}

/// What is to be laid over the settings of `unit` for `cluster`; nothing where that could keep etcd from starting, or
/// would not count. `restore` names the restore in it.
///
/// Fails when the unit's settings are not understood, or the cluster cannot stand in a file.
pub fn overlay(
    unit: &Unit,
    given: &Given,
    cluster: &NewCluster,
    restore: &str,
    read: Read<'_>,
) -> Result<Option<Overlay>, Error> {
    check(unit, cluster)?;
    let unit = &without_ours(unit);
    let start = start::read(unit, given, read)?;
    let has_flag = [NAME, ADVERTISE, CLUSTER, TOKEN, STATE]
        .iter()
        .any(|flag| start.flags.contains_key(*flag));
    let may_be_named = matches!(given.settings, Place::Auto | Place::Environment(_));
    if !start.is_etcd || has_flag || start.config_file().is_some() || !may_be_named {
        return Ok(None);
    }
    let Some(name) = drop_in_name(unit, read) else {
        return Ok(None);
    };
    let overlay = Overlay {
        environment_file: own_file(&unit.name, "env"),
        drop_in: drop_in(&unit.name, name),
        restore: restore.to_owned(),
        initial_cluster: cluster.initial_cluster.clone(),
        advertise_peer_urls: cluster.advertise_peer_urls.clone(),
    };
    let [variables, _] = overlay.files(ANY_TOKEN);
    let mut laid = unit.clone();
    laid.environment.files.push(EnvironmentFile {
        path: variables.path.clone(),
        is_optional: false,
    });
    let read_laid = |path: &Path| match path == variables.path {
        true => Ok(variables.content.clone().into_bytes()),
        false => read(path),
    };
    let before = discover(unit, given, read)?;
    let after = discover(&laid, given, &read_laid)?;
    let wanted = EtcdSettings {
        initial_cluster: cluster.initial_cluster.clone(),
        initial_cluster_token: ANY_TOKEN.to_owned(),
        initial_cluster_state: ClusterState::Existing,
        initial_advertise_peer_urls: cluster.advertise_peer_urls.clone(),
        source: after.source.clone(),
        places: after.places.clone(),
        ..before
    };
    Ok((after == wanted).then_some(overlay))
}

/// The flags in the command of `unit` that variables which a restore has laid on are set beside: etcd refuses to start with
/// both. They came later.
pub fn shadowed(unit: &Unit, given: &Given, read: Read<'_>) -> Result<Vec<String>, Error> {
    if !unit.environment.files.iter().any(|file| is_ours(&file.path)) {
        return Ok(Vec::new());
    }
    let start = start::read(unit, given, read)?;
    // With a file of its own etcd looks at no variable.
    if start.config_file().is_some() {
        return Ok(Vec::new());
    }
    let laid = [CLUSTER, TOKEN, STATE, ADVERTISE].into_iter();
    let flags = laid.filter(|flag| start.flags.contains_key(*flag));
    Ok(flags.map(|flag| format!("--{flag}")).collect())
}

/// The files that restores of any version lay over the settings of `unit`, drop-ins first: those that are to go before what
/// they refer to.
pub fn ours(unit: &UnitName) -> [PathBuf; 4] {
    [
        drop_in(unit, SETTINGS),
        drop_in(unit, LAST),
        own_file(unit, "env"),
        own_file(unit, "yaml"),
    ]
}

/// Whether a path is one of those that restores lay over etcd's environment.
pub(super) fn is_ours(path: &Path) -> bool {
    path.starts_with(FOLDER)
}

/// The unit as the operator has it, as far as environment files of ours go.
pub(super) fn without_ours(unit: &Unit) -> Unit {
    let mut unit = unit.clone();
    unit.environment.files.retain(|file| !is_ours(&file.path));
    unit
}

/// A name for our drop-in under which its environment file is read last, if there is one: systemd reads drop-ins by name.
fn drop_in_name(unit: &Unit, read: Read<'_>) -> Option<&'static str> {
    let ours = ours(&unit.name);
    let rivals = unit.files.iter().filter(|path| {
        let sets_files = |content: Vec<u8>| {
            let text = String::from_utf8_lossy(&content).into_owned();
            text.lines()
                .any(|line| line.trim_start().starts_with("EnvironmentFile"))
        };
        let is_drop_in = path.extension().is_some_and(|ending| ending == "conf");
        // One that cannot be read may say anything.
        is_drop_in && !ours.contains(path) && read(path).map_or(true, sets_files)
    });
    let last = rivals.filter_map(|path| path.file_name()).max();
    [SETTINGS, LAST]
        .into_iter()
        .find(|name| last.is_none_or(|last| last < *name))
}

fn own_file(unit: &UnitName, ending: &str) -> PathBuf {
    // A backslash, as in names with escapes, would mean something in a unit file.
    let name = unit.as_str().replace('\\', "_");
    Path::new(FOLDER).join(format!("{name}.{ending}"))
}

pub(super) fn drop_in(unit: &UnitName, name: &str) -> PathBuf {
    Path::new(DROP_INS).join(format!("{unit}.d")).join(name)
}

/// Refuses text that would end a line of a file.
fn check(unit: &Unit, cluster: &NewCluster) -> Result<(), Error> {
    let urls = cluster.advertise_peer_urls.iter().map(|url| (ADVERTISE, url));
    for (key, value) in [(CLUSTER, &cluster.initial_cluster)].into_iter().chain(urls) {
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(Error::Value {
                unit: unit.name.clone(),
                key,
                value: value.escape_debug().take(120).collect(),
                reason: "it is empty or has signs that are not text",
            });
        }
    }
    Ok(())
}
