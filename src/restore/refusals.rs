//! Why nothing is restored on this host as it is: what is asked of the host alone, before anything is done.
//!
//! The other refusals need to know more, and stand where that is known. Of the members: `running_members` (whether one of another
//! host runs; asked by `jobs::restore::running_members`). Of a run: `forward_steps` and `rollback_steps` (mounts once more, a directory that is not
//! mounted, who holds the data). In `jobs::restore`: no unit, or several, in `find_etcd`; an open restore, hosts that disagree, data
//! that is in place and a peer port in `begin`; a digest that is wrong in `restore_source`; an etcd that serves in `rollback`; whoever
//! is not root in its `mod`. What to do about each is told in `jobs::restore::errors`.

use std::io;
use std::path::PathBuf;

use super::exchange_dir;
use super::mounts;
use super::plan::{Plan, Site};
use crate::datadir;
use crate::durable::{self, Dir, ForeignLink};
use crate::etcd_settings::{self, EtcdSettings, Unit};
use crate::model::{ByteSize, UnitName};
use crate::rebuild;
use crate::systemd::LoadState;

/// Why nothing is restored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log would leave with the old data, or stay when that goes.
    #[error(transparent)]
    LogInside(rebuild::Error),
    /// Who owns the data cannot be seen.
    #[error(transparent)]
    Owner(exchange_dir::Error),
    /// The unit's user is not one of this host.
    #[error("{unit} runs as user `{user}`, which this host does not know")]
    UnknownUser {
        /// The unit.
        unit: UnitName,
        /// Its user.
        user: String,
    },
    /// The log in place cannot be read.
    #[error(transparent)]
    Log(io::Error),
    /// The operating system refused.
    #[error(transparent)]
    Files(durable::Error),
    /// Somebody but root decides where the data is.
    #[error("`{}` is a link of user {}, who could lead root anywhere by it", .0.path.display(), .0.owner)]
    Foreign(ForeignLink),
    /// A file system is mounted in what is exchanged as a whole.
    #[error("`{}` is a mount point in what a restore exchanges as a whole", .path.display())]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// It cannot be seen how the directories are.
    #[error(transparent)]
    Look(rebuild::Error),
    /// systemd does not start the unit.
    #[error("systemd does not start {unit}: {why}")]
    NotLoaded {
        /// The unit.
        unit: UnitName,
        /// Why.
        why: String,
    },
    /// A setting makes every start put another cluster together.
    #[error("etcd would not start as a member of the restored cluster: {way} is set")]
    OtherWay {
        /// Which, and where.
        way: String,
    },
    /// The settings are not understood.
    #[error(transparent)]
    Settings(etcd_settings::Error),
    /// The members make no cluster.
    #[error(transparent)]
    Members(datadir::Error),
    /// An etcd runs on the data that the unit has not started.
    #[error("an etcd that {unit} did not start uses {}", .data_dir.display())]
    HeldByOther {
        /// The unit.
        unit: UnitName,
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The new data has no room beside the old.
    #[error("{} has {free} free, and {needed} are needed beside the old data", .data_dir.display())]
    TooLittleSpace {
        /// The data directory.
        data_dir: PathBuf,
        /// What there is.
        free: ByteSize,
        /// What is needed.
        needed: ByteSize,
    },
}

/// Refuses where somebody but root decides where the data is, as by a link that etcd's user has made.
pub(super) fn refuse_links(site: &Site) -> Result<(), Error> {
    for path in site.dirs() {
        if let Some(link) = Dir::foreign_link(path).map_err(Error::Files)? {
            return Err(Error::Foreign(link));
        }
    }
    Ok(())
}

/// Refuses while a file system is mounted in what is exchanged as a whole.
pub fn refuse_mounts(site: &Site) -> Result<(), Error> {
    mounts::refuse(site, Error::Look, |path| Error::Mounted { path })
}

/// Refuses a unit that systemd has not loaded: it would not start it again.
pub fn refuse_not_loaded(unit: &UnitName, state: &LoadState) -> Result<(), Error> {
    let why = match state {
        LoadState::Loaded => return Ok(()),
        LoadState::NotFound => "it knows none of that name".to_owned(),
        LoadState::Masked => "it is masked".to_owned(),
        LoadState::BadSetting => "a setting in it is wrong".to_owned(),
        LoadState::Error => "its file cannot be read".to_owned(),
        LoadState::Other(state) => format!("it is `{state}`"),
    };
    let unit = unit.clone();
    Err(Error::NotLoaded { unit, why })
}

/// Refuses settings of a unit that make every start put another cluster together.
pub fn refuse_other_ways(unit: &Unit, settings: &EtcdSettings) -> Result<(), Error> {
    match settings.other_way(&unit.name) {
        Some(way) => Err(Error::OtherWay { way }),
        None => Ok(()),
    }
}

/// Refuses what would come to nothing later; `is_up` says whether the unit runs, `free` how much room there is for the new
/// data, where that is known.
pub fn refuse_unready(unit: &Unit, is_up: bool, plan: &Plan, free: Option<ByteSize>) -> Result<(), Error> {
    let data_dir = &plan.host.site.data_dir;
    if !is_up && rebuild::is_held(data_dir).map_err(Error::Look)? {
        return Err(Error::HeldByOther {
            unit: unit.name.clone(),
            data_dir: data_dir.clone(),
        });
    }
    let needed = ByteSize(rebuild::needed_bytes(plan.cluster.backup.bytes, plan.host.rewrite));
    match free {
        Some(free) if free < needed => Err(Error::TooLittleSpace {
            data_dir: data_dir.clone(),
            free,
            needed,
        }),
        Some(_) | None => Ok(()),
    }
}
