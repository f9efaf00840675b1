//! What a ledger says: one restore on this host, from its beginning to its end.

mod store;

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::inventory::Inventory;
use super::plan::{Plan, PlannedFile, RestoreId};
use super::transitions::{End, Step};
use crate::model::{HashKv, Revision};

pub use store::{Error, LedgerPaths, LedgerStore, closed, held, open_ledger};

/// The version of the document.
const FORMAT: u64 = 1;
/// The reason of a way back that the operator began.
const ASKED_FOR: &str = "it was asked for";

/// A file as it was before the restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileBefore {
    /// Where.
    pub path: PathBuf,
    /// What was in it; none if there was no file.
    pub content: Option<String>,
    /// Who might read it.
    pub mode: u32,
    /// User and group who owned it.
    pub owner: (u32, u32),
}

/// Whether there was a write-ahead log, without which etcd begins an empty cluster on whatever else there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogBefore {
    /// There was; ledgers that do not say so are of times when nobody looked.
    #[default]
    There,
    /// There was none.
    Missing,
}

/// What the restore replaces: noted when nothing can change it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataBefore {
    /// The inode of the old `member`; none if there was no data.
    pub member: Option<u64>,
    /// The inodes of what was in the separate directory of the log.
    pub log: Vec<u64>,
    /// Whether there was a log at all.
    #[serde(default)]
    pub has_log: LogBefore,
    /// What was in `member`; none in ledgers of times when nobody looked, or if that was too much to list.
    #[serde(default)]
    pub member_files: Option<Inventory>,
    /// What was in the separate directory of the log.
    #[serde(default)]
    pub log_files: Option<Inventory>,
}

/// What was made and checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// The inode of the new `member`.
    pub member: u64,
    /// The inode of the new log's file, where that has a directory of its own.
    pub log: Option<u64>,
    /// The revision of the restored store, a bump included.
    pub revision: Revision,
    /// HashKV as the restored member reports it, before a bump's compaction.
    pub hash_kv: HashKv,
    /// Whether HashKV equals what the live member reported.
    pub is_proven: bool,
    /// Keys that live.
    pub live_keys: u64,
    /// Whether users and passwords are asked for.
    pub auth_enabled: bool,
    /// What was no damage of the backup, and still not as it should be; not told by earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Built {
    /// The inodes of both.
    pub fn inodes(&self) -> Vec<u64> {
        [self.member].into_iter().chain(self.log).collect()
    }
}

/// When etcd went down and came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Downtime {
    /// When it was asked to stop.
    pub from: Option<Timestamp>,
    /// When it was seen to serve again.
    pub until: Option<Timestamp>,
}

/// How the host was before a restore. The ledger has each of these by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Before {
    /// Whether etcd ran.
    pub ran: bool,
    /// The files that are replaced.
    #[serde(rename = "files_before")]
    pub files: Vec<FileBefore>,
    /// What was in the file that keeps etcd from starting, which an earlier restore had left for want of data.
    #[serde(rename = "held_before", default)]
    pub held: Option<String>,
    /// What etcd showed of its log: one that is ready has one, wherever that is.
    #[serde(default)]
    pub log_shown: Option<LogBefore>,
    /// The data that is replaced, once nothing can change it any more.
    #[serde(rename = "data_before")]
    pub data: Option<DataBefore>,
}

/// What etcd has had of the new data. The ledger has each of these by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Whether etcd was let start on it.
    pub started: bool,
    /// Whether it may have served it, and taken writes: then that is not taken away for want of a start.
    #[serde(default)]
    pub may_have_served: bool,
    /// How long etcd was down.
    pub downtime: Downtime,
}

/// What has become of the old data since a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It is there.
    #[default]
    Here,
    /// It is being given up: from here on nothing of it comes back, whatever is there yet.
    Releasing,
    /// It was given up.
    Released,
}

/// One restore on this host, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    format: u64,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The step that is being taken.
    pub step: Step,
    /// What it does.
    pub plan: Plan,
    /// Files as they are to be once the restored cluster serves; only ledgers of version 0.1 have any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<PlannedFile>,
    /// The drop-in that guards the unit.
    pub guard: PlannedFile,
    /// How the host was.
    #[serde(flatten)]
    pub before: Before,
    /// What was made.
    pub built: Option<Built>,
    /// What etcd has had of the new data.
    #[serde(flatten)]
    pub service: Service,
    /// Why it went back.
    pub reason: Option<String>,
    /// How it ended, and when.
    pub end: Option<(End, Timestamp)>,
    /// What has become of the old data.
    pub kept: Kept,
}

impl Ledger {
    /// The ledger of a restore that begins.
    pub fn new(plan: Plan, guard: PlannedFile, now: Timestamp) -> Ledger {
        Ledger {
            format: FORMAT,
            opened_at: now,
            step: Step::Build,
            plan,
            settled: Vec::new(),
            guard,
            before: Before::default(),
            built: None,
            service: Service::default(),
            reason: None,
            end: None,
            kept: Kept::Here,
        }
    }

    /// Its id.
    pub fn id(&self) -> &RestoreId {
        &self.plan.host.id
    }

    /// Whether it has not begun to change what etcd uses.
    pub fn touched_nothing(&self) -> bool {
        self.step == Step::Build
    }

    /// Begins the way back at a step, because the operator wants it.
    pub(super) fn ask_back(&mut self, step: Step) {
        self.step = step;
        self.reason = Some(ASKED_FOR.to_owned());
    }

    /// Whether it went back because the operator wanted it, and not because it failed.
    pub fn was_asked_back(&self) -> bool {
        self.reason.as_deref() == Some(ASKED_FOR)
    }

    /// Whether etcd was stopped, or kept down, for it.
    pub fn touched_etcd(&self) -> bool {
        self.service.downtime.from.is_some() || self.before.data.is_some()
    }

    /// Whether there was nothing before that etcd could be started on.
    pub fn had_nothing(&self) -> bool {
        let is_nothing = |before: &DataBefore| before.member.is_none() || before.has_log == LogBefore::Missing;
        self.before.data.as_ref().is_some_and(is_nothing)
    }

    /// Whether there was data before, whatever can be done with it.
    pub fn had_data(&self) -> bool {
        self.before.data.as_ref().is_some_and(|before| before.member.is_some())
    }
}
