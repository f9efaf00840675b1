//! A unit and a service as systemd reports them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zbus::OwnedObjectPath;

use super::{Error, Properties};
use crate::etcd_settings::{Command, Environment, EnvironmentFile, ExecFlag};
use crate::sandbox::{Bound, Credential, Listed, ProtectHome, ProtectSystem, Sandbox};

/// How systemd writes "no limit" in microseconds.
const INFINITY: u64 = u64::MAX;

/// Whether systemd could read the unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadState {
    /// It could.
    Loaded,
    /// There is none of that name.
    NotFound,
    /// It is made unusable by a link to `/dev/null`.
    Masked,
    /// A setting in it is wrong.
    BadSetting,
    /// Its file cannot be read.
    Error,
    /// What a newer systemd may say.
    Other(String),
}

/// What the unit is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActiveState {
    /// It runs, or did all it had to.
    Active,
    /// It runs and reads its configuration anew.
    Reloading,
    /// It is stopped.
    Inactive,
    /// It ended with an error.
    Failed,
    /// It is being started.
    Activating,
    /// It is being stopped.
    Deactivating,
    /// What a newer systemd may say.
    Other(String),
}

/// Something that must be so for a unit to be started, as it is in force: settings that a later file took back are not
/// among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name as a setting, such as `ConditionPathExists`.
    pub kind: String,
    /// Whether one such condition of all is enough (`|`).
    pub is_trigger: bool,
    /// Whether it must not be so (`!`).
    pub is_negated: bool,
    /// Of what.
    pub parameter: String,
}

/// A unit of any kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name; that of the unit itself where an alias was asked for.
    pub id: String,
    /// Whether systemd could read it.
    pub load_state: LoadState,
    /// What it is doing.
    pub active_state: ActiveState,
    /// The same more exactly, in words that depend on the kind of the unit.
    pub sub_state: String,
    /// Its file; none for a transient unit.
    pub fragment_path: Option<PathBuf>,
    /// Its drop-ins, in the order in which they are read.
    pub drop_in_paths: Vec<PathBuf>,
    /// Whether its conditions were met when it was started the last time; if not, that start did nothing.
    pub condition_result: bool,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// The job that waits or runs for it, by its number.
    pub job: Option<u32>,
    /// Whether its files have changed since systemd read them.
    pub need_daemon_reload: bool,
    /// Whether it is started at boot: `enabled`, `disabled`, `static`, …; none if nobody can say.
    pub file_state: Option<String>,
}

/// A service: how it is set up, and its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What every unit has.
    pub unit: Unit,
    /// `Type=`
    pub kind: String,
    /// Its main process, if it runs.
    pub main_pid: Option<u32>,
    /// How it ended the last time: `success`, `exit-code`, `timeout`, …
    pub result: String,
    /// How often systemd has started it again by itself.
    pub restarts: u32,
    /// `ExecStart=`
    pub exec_start: Vec<Command>,
    /// What its programs get as their environment, but for what the manager gives to all.
    pub environment: Environment,
    /// `WorkingDirectory=`, as systemd writes it.
    pub working_directory: Option<String>,
    /// `RootImage=`
    pub root_image: Option<PathBuf>,
    /// The exit code of its main process, or the signal that ended it; 0 before it ran.
    pub main_status: i32,
    /// `TimeoutStartSec=`; none is no limit.
    pub timeout_start: Option<Duration>,
    /// `TimeoutStopSec=`; none is no limit.
    pub timeout_stop: Option<Duration>,
    /// What it may see and write.
    pub sandbox: Sandbox,
}

impl LoadState {
    fn of(text: &str) -> LoadState {
        match text {
            "loaded" => LoadState::Loaded,
            "not-found" => LoadState::NotFound,
            "masked" => LoadState::Masked,
            "bad-setting" => LoadState::BadSetting,
            "error" => LoadState::Error,
            other => LoadState::Other(other.to_owned()),
        }
    }
}

impl ActiveState {
    fn of(text: &str) -> ActiveState {
        match text {
            "active" => ActiveState::Active,
            "reloading" => ActiveState::Reloading,
            "inactive" => ActiveState::Inactive,
            "failed" => ActiveState::Failed,
            "activating" => ActiveState::Activating,
            "deactivating" => ActiveState::Deactivating,
            other => ActiveState::Other(other.to_owned()),
        }
    }
}

impl ActiveState {
    /// Whether nothing of it runs.
    pub fn is_down(&self) -> bool {
        matches!(self, ActiveState::Inactive | ActiveState::Failed)
    }
}

impl Unit {
    pub(super) fn read(mut from: Properties) -> Result<Unit, Error> {
        let drop_ins: Vec<String> = from.take("DropInPaths")?;
        let (job, _): (u32, OwnedObjectPath) = from.take("Job")?;
        let conditions: Vec<ConditionTuple> = from.take("Conditions")?;
        let conditions = conditions
            .into_iter()
            .map(|(kind, is_trigger, is_negated, parameter, _)| Condition {
                kind,
                is_trigger,
                is_negated,
                parameter,
            });
        Ok(Unit {
            id: from.take("Id")?,
            load_state: from.word("LoadState", |text| Some(LoadState::of(text)))?,
            active_state: from.word("ActiveState", |text| Some(ActiveState::of(text)))?,
            sub_state: from.take("SubState")?,
            fragment_path: from.path("FragmentPath")?,
            drop_in_paths: drop_ins.into_iter().map(PathBuf::from).collect(),
            condition_result: from.take("ConditionResult")?,
            conditions: conditions.collect(),
            job: Some(job).filter(|id| *id != 0),
            need_daemon_reload: from.take("NeedDaemonReload")?,
            file_state: from.text("UnitFileState")?,
        })
    }
}

/// A condition as D-Bus has it: kind, trigger, negated, of what, and what came of it the last time.
type ConditionTuple = (String, bool, bool, String, i32);
/// One command as D-Bus has it: path, arguments, the signs before it by name, four times of the last run, its process,
/// and how it ended.
type ExecTuple = (String, Vec<String>, Vec<String>, u64, u64, u64, u64, u32, i32, i32);
/// One bind mount: from, to, whether it may be missing, flags.
type BindTuple = (String, String, bool, u64);

impl Service {
    pub(super) fn read(unit: Unit, mut from: Properties) -> Result<Service, Error> {
        let exec_start: Vec<ExecTuple> = from.take("ExecStartEx")?;
        let files: Vec<(String, bool)> = from.take("EnvironmentFiles")?;
        let main_pid: u32 = from.take("MainPID")?;
        Ok(Service {
            unit,
            kind: from.take("Type")?,
            main_pid: Some(main_pid).filter(|pid| *pid != 0),
            result: from.take("Result")?,
            restarts: from.take("NRestarts")?,
            exec_start: exec_start.into_iter().map(command).collect(),
            environment: Environment {
                manager: Vec::new(),
                set: from.take("Environment")?,
                files: files
                    .into_iter()
                    .map(|(path, is_optional)| EnvironmentFile {
                        path: PathBuf::from(path),
                        is_optional,
                    })
                    .collect(),
                unset: from.take("UnsetEnvironment")?,
            },
            root_image: from.path("RootImage")?,
            main_status: from.take("ExecMainStatus")?,
            working_directory: from.text("WorkingDirectory")?,
            timeout_start: span(from.take("TimeoutStartUSec")?),
            timeout_stop: span(from.take("TimeoutStopUSec")?),
            sandbox: sandbox(&mut from)?,
        })
    }
}

fn command((path, words, flags, ..): ExecTuple) -> Command {
    Command {
        program: PathBuf::from(path),
        words,
        flags: flags.iter().map(|name| ExecFlag::named(name)).collect(),
    }
}

fn span(microseconds: u64) -> Option<Duration> {
    (microseconds != INFINITY).then(|| Duration::from_micros(microseconds))
}

fn sandbox(from: &mut Properties) -> Result<Sandbox, Error> {
    let temporary: Vec<(String, String)> = from.take("TemporaryFileSystem")?;
    let mut bound = Vec::new();
    for (name, writable) in [("BindPaths", true), ("BindReadOnlyPaths", false)] {
        let binds: Vec<BindTuple> = from.take(name)?;
        bound.extend(binds.into_iter().map(|(from, to, ..)| Bound {
            from: PathBuf::from(from),
            to: PathBuf::from(to),
            writable,
        }));
    }
    Ok(Sandbox {
        user: from.text("User")?,
        group: from.text("Group")?,
        supplementary_groups: from.take("SupplementaryGroups")?,
        root_directory: from.path("RootDirectory")?,
        protect_system: from.word("ProtectSystem", ProtectSystem::of)?,
        protect_home: from.word("ProtectHome", ProtectHome::of)?,
        private_tmp: from.take("PrivateTmp")?,
        private_devices: from.take("PrivateDevices")?,
        read_write: listed(from.take("ReadWritePaths")?),
        read_only: listed(from.take("ReadOnlyPaths")?),
        inaccessible: listed(from.take("InaccessiblePaths")?),
        bound,
        temporary: temporary.into_iter().map(|(path, _)| PathBuf::from(path)).collect(),
        own_directories: own_directories(from)?,
        credentials: credentials(from)?,
    })
}

fn listed(paths: Vec<String>) -> Vec<Listed> {
    paths.iter().map(|path| Listed::of(path)).collect()
}

fn own_directories(from: &mut Properties) -> Result<Vec<PathBuf>, Error> {
    let mut own = Vec::new();
    for (name, above) in [
        ("StateDirectory", "/var/lib"),
        ("CacheDirectory", "/var/cache"),
        ("LogsDirectory", "/var/log"),
        ("RuntimeDirectory", "/run"),
    ] {
        let below: Vec<String> = from.take(name)?;
        own.extend(below.iter().map(|path| Path::new(above).join(path)));
    }
    Ok(own)
}

fn credentials(from: &mut Properties) -> Result<Vec<Credential>, Error> {
    let mut credentials = Vec::new();
    for name in ["LoadCredential", "LoadCredentialEncrypted"] {
        let loaded: Vec<(String, String)> = from.take_if_any(name)?.unwrap_or_default();
        credentials.extend(loaded.into_iter().map(|(name, from)| Credential {
            name,
            // A bare name is looked for in systemd's own stores.
            from: Some(PathBuf::from(from)).filter(|path| path.is_absolute()),
        }));
    }
    for name in ["SetCredential", "SetCredentialEncrypted"] {
        let set: Vec<(String, Vec<u8>)> = from.take_if_any(name)?.unwrap_or_default();
        credentials.extend(set.into_iter().map(|(name, _)| Credential { name, from: None }));
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_a_newer_systemd_is_kept_and_not_left_out() {
        let flags = ["ignore-failure", "via-shell", "no-env-expand"].map(str::to_owned);
        let words = vec!["sh".to_owned(), "/usr/bin/etcd".to_owned()];
        let found = command(("/bin/sh".to_owned(), words, flags.into(), 0, 0, 0, 0, 0, 0, 0));
        let unknown = ExecFlag::Unknown("via-shell".to_owned());
        assert_eq!(found.flags, [ExecFlag::IgnoreFailure, unknown, ExecFlag::NoVariables]);
    }
}
