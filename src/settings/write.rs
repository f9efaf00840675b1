//! New settings for etcd, laid over those that are there by files of our own.
//!
//! What nobody but us made is never edited. A drop-in of the unit brings one more environment file, which wins because
//! it is listed last; or, where flags or a YAML file decide, a command line of its own. Which of them will do is not
//! guessed: each is tried on paper, and the first with which [`discover`] reads exactly what is wanted is taken.
//!
//! Invariant: what is written differs from what etcd had in who is in the cluster, and in nothing else.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::flags::{ADVERTISE, CLUSTER, DATA_DIR, NAME, OTHER_WAYS, STATE, TOKEN, variable};
use super::unit::{Command, EnvironmentFile, Unit};
use super::{
    ClusterState, Error, EtcdSettings, Given, Read, Source, arguments, command, discover, environment, located, shell,
    text, words, yaml,
};
use crate::model::UnitName;

/// Where the files that drop-ins refer to are.
const FOLDER: &str = "/etc/lifeboat/restore";
/// Where the drop-ins of the host's administrator are, and ours.
const DROP_INS: &str = "/etc/systemd/system";
const SETTINGS: &str = "50-lifeboat.conf";
const GUARD: &str = "50-lifeboat-guard.conf";

/// Who is in the cluster from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCluster {
    /// This member's name.
    pub name: String,
    /// All members, as in `--initial-cluster`.
    pub initial_cluster: String,
    /// The cluster's token.
    pub token: String,
    /// Where the others reach this member.
    pub advertise_peer_urls: Vec<String>,
}

/// How long systemd waits for etcd to be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// For ever: a member of several is ready when it sees a majority of the others, whenever they are started.
    WaitsForOthers,
    /// As the unit says.
    AsBefore,
}

/// A file to be written, in place of the one of that name that we wrote before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Where; its folder may be missing.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
    /// Who may read it.
    pub access: Access,
}

/// Who may read a file; all its folders must let them through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everybody: mode 0644.
    Everybody,
    /// Owner, group and mode as this file has them: etcd's user opens it.
    As(PathBuf),
}

/// Files that give etcd new settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// In the order in which they are to be written; the drop-in that makes the others count is the last.
    pub files: Vec<NewFile>,
    /// What etcd will start with once they are there and the manager has reloaded.
    pub settings: EtcdSettings,
}

/// Works out the files with which `unit` starts etcd as a member of `cluster`; `restore` names the restore in them.
///
/// Fails when no drop-in can bring that about, or when the unit's settings are not understood.
pub fn write(
    unit: &Unit,
    given: &Given,
    cluster: &NewCluster,
    start: Start,
    restore: &str,
    read: Read<'_>,
) -> Result<Written, Error> {
    let found = discover(unit, given, read)?;
    let had = command::read(unit, given, read)?;
    let (source, values) = located(unit, given, &had, read)?;
    let wanted = wanted(&found, cluster);
    check(unit, cluster)?;
    let mut changes: Vec<(&'static str, Option<String>)> = vec![
        (NAME, Some(cluster.name.clone())),
        (CLUSTER, Some(cluster.initial_cluster.clone())),
        (TOKEN, Some(cluster.token.clone())),
        (STATE, Some("existing".to_owned())),
        (ADVERTISE, Some(cluster.advertise_peer_urls.join(","))),
    ];
    // Its default hangs on the name.
    if given.data_dir.is_none() {
        changes.push((DATA_DIR, Some(found.data_dir.display().to_string())));
    }
    // Also those that an earlier restore emptied: its files are replaced.
    let is_there = |way: &str| {
        values.0.contains_key(way) || had.flags.contains_key(way) || had.environment.contains_key(&variable(way))
    };
    changes.extend(OTHER_WAYS.iter().filter(|way| is_there(way)).map(|way| (*way, None)));
    let draft = Draft {
        unit,
        start,
        restore,
        changes: &changes,
    };
    let drafts = match &source {
        Source::ConfigFile { path } => {
            let copy = NewFile {
                path: own(unit, "yaml"),
                content: draft.headed(&yaml::changed(path, &text(unit, path, read)?, &changes)?),
                access: Access::As(path.clone()),
            };
            let copied = vec![("config-file", Some(copy.path.display().to_string()))];
            let draft = Draft {
                changes: &copied,
                ..draft
            };
            match had.flags.contains_key("config-file") {
                true => vec![draft.by_flags(vec![copy])?],
                false => vec![draft.by_variables(vec![copy])],
            }
        }
        // Without the command line that we gave it, the unit would have one that we cannot see.
        Source::Environment { .. } | Source::Flags if has_our_command(unit, read)? => vec![draft.by_flags(Vec::new())?],
        Source::Environment { .. } | Source::Flags => vec![draft.by_variables(Vec::new()), draft.by_flags(Vec::new())?],
    };
    let mut key = NAME;
    for (unit, files) in drafts {
        let contents: BTreeMap<&Path, &str> = files.iter().map(|file| (&*file.path, &*file.content)).collect();
        let settings = discover(&unit, given, &|path| match contents.get(path) {
            Some(content) => Ok(content.as_bytes().to_vec()),
            None => read(path),
        })?;
        match difference(&settings, &wanted) {
            None => return Ok(Written { files, settings }),
            Some(differs) => key = differs,
        }
    }
    Err(Error::Unchangeable {
        unit: unit.name.clone(),
        key,
        reason: "what the unit's command line or environment says wins over it".to_owned(),
    })
}

/// The drop-in that keeps `unit` from starting as long as `lock` exists.
pub fn guard(unit: &UnitName, lock: &Path) -> NewFile {
    let folder = lock.parent().unwrap_or(Path::new("/"));
    let (lock, folder) = (lock.display(), folder.display());
    let content = format!(
        "# Written by etcd-lifeboat: as long as the file below exists, a restore is changing etcd's data directory.\n\
         # `lifeboat status` says how far it is; `lifeboat rollback` puts back what was there before.\n\
         [Unit]\n\
         RequiresMountsFor={folder}\n\
         ConditionPathExists=!{lock}\n"
    );
    NewFile {
        path: drop_in(unit, GUARD),
        content,
        access: Access::Everybody,
    }
}

/// Whether `unit`, as it is loaded, has read the guard.
pub fn is_guarded_by(unit: &Unit, guard: &NewFile) -> bool {
    unit.files.contains(&guard.path)
}

/// Whether the unit's command line is that of an earlier restore.
fn has_our_command(unit: &Unit, read: Read<'_>) -> Result<bool, Error> {
    let path = drop_in(&unit.name, SETTINGS);
    if !unit.files.contains(&path) {
        return Ok(false);
    }
    Ok(text(unit, &path, read)?
        .lines()
        .any(|line| line.starts_with("ExecStart=")))
}

/// Whether a path is one of those that we write for etcd.
pub(super) fn is_ours(path: &Path) -> bool {
    path.starts_with(FOLDER)
}

fn own(unit: &Unit, ending: &str) -> PathBuf {
    // A backslash, as in names with escapes, would mean something in a unit file.
    let name = unit.name.as_str().replace('\\', "_");
    Path::new(FOLDER).join(format!("{name}.{ending}"))
}

fn drop_in(unit: &UnitName, name: &str) -> PathBuf {
    Path::new(DROP_INS).join(format!("{unit}.d")).join(name)
}

/// What etcd shall start with.
pub(super) fn wanted(found: &EtcdSettings, cluster: &NewCluster) -> EtcdSettings {
    EtcdSettings {
        name: cluster.name.clone(),
        initial_cluster: cluster.initial_cluster.clone(),
        initial_cluster_token: cluster.token.clone(),
        initial_cluster_state: ClusterState::Existing,
        initial_advertise_peer_urls: cluster.advertise_peer_urls.clone(),
        discovery: None,
        forces_new_cluster: false,
        ..found.clone()
    }
}

/// The first setting that is not as it should be; where the settings are may differ.
fn difference(is: &EtcdSettings, wanted: &EtcdSettings) -> Option<&'static str> {
    let same = [
        (NAME, is.name == wanted.name),
        (CLUSTER, is.initial_cluster == wanted.initial_cluster),
        (TOKEN, is.initial_cluster_token == wanted.initial_cluster_token),
        (STATE, is.initial_cluster_state == wanted.initial_cluster_state),
        (
            ADVERTISE,
            is.initial_advertise_peer_urls == wanted.initial_advertise_peer_urls,
        ),
        ("discovery", is.discovery == wanted.discovery),
        ("force-new-cluster", is.forces_new_cluster == wanted.forces_new_cluster),
        (DATA_DIR, is.data_dir == wanted.data_dir),
        ("wal-dir", is.wal_dir == wanted.wal_dir),
        ("listen-client-urls", is.listen_client_urls == wanted.listen_client_urls),
        (
            "advertise-client-urls",
            is.advertise_client_urls == wanted.advertise_client_urls,
        ),
        ("listen-peer-urls", is.listen_peer_urls == wanted.listen_peer_urls),
        ("cert-file", is.client_tls == wanted.client_tls),
        ("peer-cert-file", is.peer_tls == wanted.peer_tls),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(key, _)| key)
}

/// Refuses text that would end a line of a file.
fn check(unit: &Unit, cluster: &NewCluster) -> Result<(), Error> {
    let urls = cluster.advertise_peer_urls.iter().map(|url| (ADVERTISE, url));
    let texts = [
        (NAME, &cluster.name),
        (CLUSTER, &cluster.initial_cluster),
        (TOKEN, &cluster.token),
    ];
    for (key, value) in texts.into_iter().chain(urls) {
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

/// What is to be changed, and for whom.
#[derive(Clone, Copy)]
struct Draft<'a> {
    unit: &'a Unit,
    start: Start,
    restore: &'a str,
    changes: &'a [(&'static str, Option<String>)],
}

impl Draft<'_> {
    /// By one more environment file.
    fn by_variables(&self, mut files: Vec<NewFile>) -> (Unit, Vec<NewFile>) {
        let path = own(self.unit, "env");
        let mut content = String::new();
        for (key, value) in self.changes {
            // An empty variable is none to etcd.
            content.push_str(&environment::line(&variable(key), value.as_deref().unwrap_or("")));
        }
        let line = format!("EnvironmentFile={}\n", path.display());
        files.push(NewFile {
            path: path.clone(),
            content: self.headed(&content),
            access: Access::Everybody,
        });
        files.push(self.drop_in(&line));
        let mut unit = self.unit.clone();
        unit.environment.files.retain(|file| file.path != path);
        let is_optional = false;
        unit.environment.files.push(EnvironmentFile { path, is_optional });
        (unit, files)
    }

    /// By a command line of its own: the one that is there, with our flags behind, the last of which win.
    fn by_flags(&self, mut files: Vec<NewFile>) -> Result<(Unit, Vec<NewFile>), Error> {
        let command = self.command(command::only(self.unit)?);
        files.push(self.drop_in(&format!("ExecStart=\nExecStart={}\n", words::exec_start(&command))));
        let mut unit = self.unit.clone();
        unit.exec_start = vec![command];
        unit.environment.files.retain(|file| !is_ours(&file.path));
        Ok((unit, files))
    }

    fn command(&self, command: &Command) -> Command {
        let mut command = command.clone();
        let flags = self.changes.iter().map(|(key, value)| match (value, *key) {
            (Some(value), _) => (*key, value.as_str()),
            (None, super::flags::FORCE) => (*key, "false"),
            (None, _) => (*key, ""),
        });
        if command::is_shell(&command) {
            for (key, value) in flags {
                let word = format!(" --{key}={}", shell::quoted(value));
                let word = words::literal(&word, &command.flags);
                command.words[2].push_str(&word);
            }
            return command;
        }
        let mut kept: Vec<String> = command.words.iter().take(1).cloned().collect();
        let mut rest = command.words.get(1..).unwrap_or_default();
        while let Some(word) = rest.first() {
            let argument = arguments::first(rest);
            let length = argument.as_ref().map_or(1, |argument| argument.length);
            let is_changed = argument.is_some_and(|is| self.changes.iter().any(|(key, _)| *key == is.flag));
            if !is_changed {
                kept.push(word.clone());
                kept.extend(rest[1..length].iter().cloned());
            }
            rest = &rest[length..];
        }
        for (key, value) in flags {
            kept.push(words::literal(&format!("--{key}={value}"), &command.flags));
        }
        command.words = kept;
        command
    }

    /// The drop-in that holds `lines`.
    fn drop_in(&self, lines: &str) -> NewFile {
        let mut content = self.headed("[Service]\n");
        content.push_str(lines);
        match self.start {
            Start::WaitsForOthers => content.push_str(
                "# etcd is ready when it sees a majority of the members, whenever they are started.\n\
                 TimeoutStartSec=infinity\n",
            ),
            Start::AsBefore => {}
        }
        NewFile {
            path: drop_in(&self.unit.name, SETTINGS),
            content,
            access: Access::Everybody,
        }
    }

    /// `content` under words about where it comes from, in place of those of an earlier restore.
    fn headed(&self, content: &str) -> String {
        const MARK: &str = "# Written by etcd-lifeboat";
        let old = content
            .lines()
            .take_while(|line| line.starts_with(MARK) || line.starts_with("# `lifeboat rollback"));
        let content: String = content
            .lines()
            .skip(old.count())
            .map(|line| format!("{line}\n"))
            .collect();
        format!(
            "{MARK} in restore {}: etcd's settings in the restored cluster.\n\
             # `lifeboat rollback` takes it away again, together with the restored data.\n{content}",
            self.restore
        )
    }
}
