//! What a full backup holds and no watch shows: users and roles, members, the cluster's version. Where it has changed since the full
//! backup that is followed, another one is taken. And alarms, which are told.
//!
//! What was seen last is kept beside the spool, with the moment from which on it was so: a full backup that was begun before that is
//! owed another one, also where it changed while no agent ran. A member that does not tell something changes nothing.
//!
//! Invariant: what is owed stays owed until a full backup was begun that has it, however often one cannot be taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::durable;
use crate::etcd::{Access, Ahead, Listed, Member, Status, auth_revision, survey};
use crate::layout::FORMAT;
use crate::model::ClusterId;

/// Its name beside the spool.
const FILE: &str = "beside.json";
const MODE: u32 = 0o600;
/// More than a thousand members with long URLs.
const LARGEST: u64 = 1 << 20;
/// Of how many clusters before it is kept what they had.
const MOST_EARLIER: usize = 4;
/// How long it waits after a full backup could not be taken, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));

/// What there is beside the keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beside {
    /// How often users, roles and passwords were changed.
    auth_revision: Option<u64>,
    /// The members, one a line.
    members: Option<BTreeSet<String>>,
    /// That of the cluster, as all members together have it.
    version: Option<String>,
}

/// What is told at one time.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub beside: Beside,
    /// The alarms of the cluster; none where no member answers.
    pub alarms: Option<BTreeSet<String>>,
    /// Whether the member that is watched is said to have other data than the others, and whether another one is not.
    pub corrupt: Option<OthersAreWell>,
}

/// Whether another member can be watched in the place of one whose data is in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OthersAreWell(pub bool);

/// Asks the member that is watched, and all for their versions.
pub(super) async fn ask(mut watched: Member, settings: &Settings, access: &Access) -> Told {
    let surveyed = survey(&settings.members, access, Ahead::Little).await;
    let own = watched.status().await.ok();
    let statuses: Vec<&Status> = surveyed
        .iter()
        .filter_map(|member| member.candidate.answer.as_ref().ok())
        .collect();
    let is_well = |status: &&Status| !status.is_corrupt() && !status.learner && status.leader.is_some();
    let corrupt = own
        .is_some_and(|own| own.is_corrupt())
        .then(|| OthersAreWell(statuses.iter().any(is_well)));
    let version = match statuses.len() == surveyed.len() {
        true => cluster_version(statuses.iter().map(|status| status.version.as_str())),
        // That of one that is silent may be the lowest.
        false => None,
    };
    let raised = statuses.iter().flat_map(|status| &status.alarms);
    let alarms = raised
        .map(|alarm| format!("alarm {} of member {}", alarm.kind, alarm.member))
        .collect();
    Told {
        beside: Beside {
            auth_revision: auth_revision(watched.url(), access).await.ok().flatten(),
            members: watched
                .members()
                .await
                .ok()
                .map(|members| members.iter().map(line).collect()),
            version,
        },
        alarms: (!statuses.is_empty()).then_some(alarms),
        corrupt,
    }
}

fn line(member: &Listed) -> String {
    let role = if member.learner { "learner" } else { "voter" };
    let (mut peers, mut clients) = (member.peer_urls.clone(), member.client_urls.clone());
    peers.sort();
    clients.sort();
    let (peers, clients) = (peers.join(","), clients.join(","));
    format!("{} {} {role} {peers} {clients}", member.id, member.name)
}

/// The lowest of the members' versions, without the patch: etcd keeps that as the cluster's.
fn cluster_version<'a>(versions: impl Iterator<Item = &'a str>) -> Option<String> {
    let parsed = versions.map(|version| {
        let mut parts = version.split('.');
        let (major, minor) = (parts.next()?, parts.next()?);
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let all: Option<Vec<(u32, u32)>> = parsed.collect();
    let (major, minor) = all?.into_iter().min()?;
    Some(format!("{major}.{minor}"))
}

/// What is kept of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// The version, 1. The first ones had none.
    #[serde(default = "first_format")]
    format: u64,
    beside: Beside,
    /// The cluster that has it; the first versions did not keep that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterId>,
    /// What others had before it, the last one first: a restore on this host makes another cluster, and `rollback` brings back
    /// the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<(ClusterId, Beside)>,
    /// From when on it was seen to be so; a full backup that was begun before may have something else.
    since: Option<Timestamp>,
    /// What had changed then.
    why: Option<String>,
}

impl Kept {
    /// What is told from now on is of this cluster: what another one has is no change.
    fn turn_to(&mut self, cluster: ClusterId) {
        let Some(before) = self.cluster.replace(cluster).filter(|before| *before != cluster) else {
            return;
        };
        let known = self.earlier.iter().position(|(of, _)| *of == cluster);
        let known = known.map_or_else(Beside::default, |index| self.earlier.remove(index).1);
        let before = (before, std::mem::replace(&mut self.beside, known));
        self.earlier.insert(0, before);
        self.earlier.truncate(MOST_EARLIER);
    }
}

fn first_format() -> u64 {
    FORMAT
}

/// Reads what is kept; another version is none that this one knows.
fn read_kept(bytes: &[u8]) -> Result<Kept, String> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match kept.format {
        FORMAT => Ok(kept),
        other => Err(format!("it is of format {other}, this version reads {FORMAT}")),
    }
}

/// Why another full backup is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Debt {
    since: Timestamp,
    /// In words.
    pub why: String,
}

/// What is remembered, in a file and of this run.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    kept: Kept,
    pause: Duration,
    not_before: Option<Instant>,
    alarms: BTreeSet<String>,
    difference: Option<Difference>,
}

/// Members that report different hashes.
#[derive(Debug)]
struct Difference {
    between: String,
    how: String,
    /// Whether a full backup was taken for that.
    has_full: bool,
}

impl Memory {
    /// What an agent before this one has kept beside the spool in `folder`. Where that cannot be read, all may have changed; and
    /// that is said.
    pub fn of(folder: &Path, now: Timestamp) -> (Memory, Option<String>) {
        let path = folder.join(FILE);
        let read = durable::read_plain(&path, LARGEST);
        let read = match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read
                .map_err(|error| error.to_string())
                .and_then(|bytes| read_kept(&bytes).map(Some)),
        };
        let (kept, trouble) = match read {
            Ok(kept) => (kept, None),
            Err(why) => (None, Some(why)),
        };
        let unknown = Kept {
            format: FORMAT,
            beside: Beside::default(),
            cluster: None,
            earlier: Vec::new(),
            since: trouble.as_ref().map(|_| now),
            why: trouble
                .as_ref()
                .map(|_| "what was known of users and members is lost".to_owned()),
        };
        let said = trouble.map(|why| format!("`{}` cannot be read ({why}): a full backup is taken", path.display()));
        let memory = Memory {
            path,
            kept: kept.unwrap_or(unknown),
            pause: PAUSES.0,
            not_before: None,
            alarms: BTreeSet::new(),
            difference: None,
        };
        (memory, said)
    }

    /// Takes in what is told of a cluster now. Fails where it cannot be kept: it is owed all the same.
    pub fn take(&mut self, told: Beside, cluster: ClusterId, now: Timestamp) -> Result<(), durable::Error> {
        let before = self.kept.clone();
        self.kept.turn_to(cluster);
        let known = &mut self.kept.beside;
        let mut changed = Vec::new();
        if take_one(&mut known.auth_revision, told.auth_revision) {
            changed.push("users, roles or passwords");
        }
        if take_one(&mut known.members, told.members) {
            changed.push("members");
        }
        if take_one(&mut known.version, told.version) {
            changed.push("the cluster's version");
        }
        if !changed.is_empty() {
            let changed = changed.join(" and ");
            self.kept.why = Some(format!("{changed} changed, which only a full backup holds"));
            self.kept.since = Some(now);
        }
        match self.kept == before {
            true => Ok(()),
            false => self.keep(),
        }
    }

    fn keep(&self) -> Result<(), durable::Error> {
        let bytes = serde_json::to_vec(&self.kept).expect("it has only text keys");
        durable::replace(&self.path, &bytes, MODE)
    }

    /// What another full backup is owed for, where the one that is followed was begun then.
    pub fn owes(&self, begun_at: Timestamp) -> Option<Debt> {
        let since = self.kept.since.filter(|since| begun_at < *since)?;
        let why = self
            .kept
            .why
            .as_deref()
            .unwrap_or("what only a full backup holds changed");
        let why = why.to_owned();
        Some(Debt { since, why })
    }

    /// Whether one may be tried now.
    pub fn may_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= now)
    }

    /// One was taken for that. By whichever clock it was begun, it is not owed any more, unless something has changed since.
    pub fn pay(&mut self, debt: &Debt) {
        (self.not_before, self.pause) = (None, PAUSES.0);
        if self.kept.since == Some(debt.since) {
            (self.kept.since, self.kept.why) = (None, None);
            // Where that cannot be kept, the next agent takes one more.
            self.keep().ok();
        }
    }

    /// None could be taken.
    pub fn has_failed(&mut self, now: Instant) {
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSES.1);
    }

    /// These members report different hashes; whether that is news.
    pub fn differs(&mut self, between: &str, how: &str) -> bool {
        let known = self.difference.as_mut().filter(|known| known.between == between);
        match known {
            Some(known) => {
                how.clone_into(&mut known.how);
                false
            }
            None => {
                self.difference = Some(Difference {
                    between: between.to_owned(),
                    how: how.to_owned(),
                    has_full: false,
                });
                true
            }
        }
    }

    /// How they differ, in words.
    pub fn difference(&self) -> Option<String> {
        self.difference.as_ref().map(|known| known.how.clone())
    }

    /// Whether a full backup is still to be taken for that.
    pub fn lacks_full_for_difference(&self) -> bool {
        self.difference.as_ref().is_some_and(|known| !known.has_full)
    }

    /// It was taken.
    pub fn has_full_for_difference(&mut self) {
        if let Some(known) = &mut self.difference {
            known.has_full = true;
        }
    }

    /// Members report the same; which ones did not before.
    pub fn agree(&mut self) -> Option<String> {
        self.difference.take().map(|known| known.between)
    }

    /// Which alarms were raised, and which are gone.
    pub fn hear(&mut self, alarms: BTreeSet<String>) -> (Vec<String>, Vec<String>) {
        let before = std::mem::replace(&mut self.alarms, alarms);
        let raised = self.alarms.difference(&before).cloned().collect();
        let gone = before.difference(&self.alarms).cloned().collect();
        (raised, gone)
    }
}

/// Whether it is another one than the one that was known.
fn take_one<T: PartialEq>(known: &mut Option<T>, told: Option<T>) -> bool {
    let Some(told) = told else { return false };
    let is_another = known.as_ref().is_some_and(|known| *known != told);
    *known = Some(told);
    is_another
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    const HERE: ClusterId = ClusterId(0xab);

    fn beside(auth: u64, members: &[&str]) -> Beside {
        Beside {
            auth_revision: Some(auth),
            members: Some(members.iter().map(ToString::to_string).collect()),
            version: None,
        }
    }

    #[test]
    fn what_changed_owes_a_full_backup_until_one_was_begun_after_it_also_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let again = |now| {
            let (memory, said) = Memory::of(folder.path(), now);
            assert_eq!(said, None);
            memory
        };
        let mut memory = again(at(0));
        memory.take(beside(1, &["a"]), HERE, at(0)).unwrap();
        assert_eq!(memory.owes(at(-60)), None, "nothing else was seen before");
        memory.take(Beside::default(), HERE, at(1)).unwrap();
        assert_eq!(memory.owes(at(-60)), None, "nobody tells anything");
        // No agent runs.
        let mut memory = again(at(100));
        memory.take(beside(2, &["a", "b"]), HERE, at(100)).unwrap();
        let why = memory.owes(at(-60)).unwrap().why;
        assert!(
            why.starts_with("users, roles or passwords and members changed"),
            "{why}"
        );
        let mut memory = again(at(200));
        memory.take(beside(2, &["a", "b"]), HERE, at(200)).unwrap();
        assert!(memory.owes(at(-60)).is_some() && memory.owes(at(100)).is_none());
        let now = Instant::now();
        memory.has_failed(now);
        assert!(!memory.may_try(now) && memory.may_try(now + PAUSES.0));
        let debt = memory.owes(at(-60)).unwrap();
        memory.pay(&debt);
        assert!(memory.may_try(now) && memory.owes(at(-60)).is_none());
        assert_eq!(again(at(210)).owes(at(-60)), None);
        memory.take(beside(3, &["a", "b"]), HERE, at(220)).unwrap();
        memory.pay(&debt);
        assert!(memory.owes(at(-60)).is_some(), "it has changed once more");
    }

    #[test]
    fn another_cluster_is_no_change_and_of_one_that_comes_back_is_known_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let (mut memory, _) = Memory::of(folder.path(), at(0));
        let restored = ClusterId(0xcd);
        memory.take(beside(1, &["a"]), HERE, at(0)).unwrap();
        memory.take(beside(7, &["b"]), restored, at(10)).unwrap();
        assert_eq!(memory.owes(at(5)), None, "a restore is no change");
        memory.take(beside(8, &["b"]), restored, at(20)).unwrap();
        assert!(memory.owes(at(15)).is_some(), "what changes in it is one");
        let debt = memory.owes(at(15)).unwrap();
        memory.pay(&debt);
        let (mut memory, _) = Memory::of(folder.path(), at(25));
        memory.take(beside(1, &["a"]), HERE, at(30)).unwrap();
        assert_eq!(memory.owes(at(-60)), None, "it was taken back");
        memory.take(beside(8, &["b"]), restored, at(40)).unwrap();
        memory.take(beside(2, &["a"]), HERE, at(50)).unwrap();
        assert!(
            memory.owes(at(45)).is_some(),
            "somebody has changed a password meanwhile"
        );
    }

    #[test]
    fn a_memory_that_cannot_be_read_owes_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let (mut memory, said) = Memory::of(folder.path(), at(0));
        assert!(said.unwrap().contains("cannot be read"));
        memory.take(beside(1, &["a"]), HERE, at(1)).unwrap();
        assert!(memory.owes(at(-1)).is_some() && memory.owes(at(0)).is_none());
        let (memory, said) = Memory::of(folder.path(), at(100));
        assert!(said.is_none() && memory.owes(at(-1)).is_some());
    }

    #[test]
    fn what_the_first_versions_kept_is_read_and_what_a_later_one_keeps_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let old = r#"{"beside":{"auth_revision":1,"members":["a"],"version":"3.6"},"since":null,"why":null}"#;
        std::fs::write(&path, old).unwrap();
        let (mut memory, said) = Memory::of(folder.path(), at(0));
        assert_eq!(said, None);
        memory.take(beside(2, &["a"]), HERE, at(10)).unwrap();
        assert!(memory.owes(at(0)).is_some(), "what the first version knew counts");
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(kept["format"], 1);
        std::fs::write(&path, kept.to_string().replace("\"format\":1", "\"format\":2")).unwrap();
        let (_, said) = Memory::of(folder.path(), at(20));
        assert!(said.unwrap().contains("format 2"));
    }

    #[test]
    fn the_version_of_a_cluster_is_the_lowest_of_its_members() {
        let version = |versions: &[&str]| cluster_version(versions.iter().copied());
        assert_eq!(version(&["3.10.1", "3.5.21", "3.6.0"]).as_deref(), Some("3.5"));
        assert_eq!(version(&["3.6.0-rc.1"]).as_deref(), Some("3.6"));
        assert_eq!(version(&["3.6.0", "none"]), None);
        assert_eq!(version(&[]), None);
    }

    #[test]
    fn members_that_differ_have_one_full_backup_taken_until_others_do_or_they_have_agreed() {
        let folder = tempfile::tempdir().unwrap();
        let (mut memory, _) = Memory::of(folder.path(), at(0));
        assert!(memory.differs("m1 and m2", "at 7") && memory.lacks_full_for_difference());
        assert!(
            !memory.differs("m1 and m2", "at 8") && memory.lacks_full_for_difference(),
            "none could be taken"
        );
        memory.has_full_for_difference();
        assert!(!memory.differs("m1 and m2", "at 9") && !memory.lacks_full_for_difference());
        assert_eq!(memory.difference().as_deref(), Some("at 9"));
        assert!(memory.differs("m1 and m3", "at 9") && memory.lacks_full_for_difference());
        assert_eq!(memory.agree().as_deref(), Some("m1 and m3"));
        assert_eq!((memory.difference(), memory.agree()), (None, None));
        assert!(memory.differs("m1 and m3", "at 12"));
    }

    #[test]
    fn alarms_are_told_when_they_come_and_when_they_go() {
        let folder = tempfile::tempdir().unwrap();
        let (mut memory, _) = Memory::of(folder.path(), at(0));
        let set = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        assert_eq!(memory.hear(set(&["a"])), (vec!["a".to_owned()], vec![]));
        assert_eq!(memory.hear(set(&["a", "b"])), (vec!["b".to_owned()], vec![]));
        assert_eq!(memory.hear(set(&["b"])), (vec![], vec!["a".to_owned()]));
    }
}
