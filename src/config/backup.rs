//! `[backup]`: how backups are taken.

use std::collections::BTreeMap;
use std::time::Duration;

use super::duration::duration;
use super::reader::Reader;
use super::section::Section;
use super::{Member, MemberName};
use crate::backup::{HashKvPolicy, Pace};
use crate::layout::Proof;

/// How long a stream from etcd may be silent.
const IDLE_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// How long a snapshot may take.
const FINISH_WITHINS: std::ops::RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(168 * 3600);

/// `[backup]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The member that is asked for the snapshot.
    pub member: MemberChoice,
    /// Whether the backup is compared with the member's own hash.
    pub hash_kv: HashKvPolicy,
    /// How far backups must be proven in time, or `status` calls it wrong.
    pub require: Proof,
    /// How long the stream may be silent, 1 s to 1 h.
    pub idle_timeout: Duration,
    /// How long a snapshot may take at the pace at which the member sends, 1 min to 7 days.
    pub finish_within: Duration,
    /// How fast the member is read from.
    pub pace: Pace,
}

/// Which member is asked for a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChoice {
    /// A healthy follower where there is one, the leader otherwise.
    Auto,
    /// The one on this host.
    Local,
    /// This one.
    Named(MemberName),
}

impl Default for Backup {
    fn default() -> Self {
        Backup {
            member: MemberChoice::Auto,
            hash_kv: HashKvPolicy::Auto,
            require: Proof::Stored,
            idle_timeout: Duration::from_secs(30),
            finish_within: Duration::from_secs(6 * 3600),
            pace: Pace::Auto,
        }
    }
}

impl Reader<'_> {
    pub(super) fn backup(&mut self, root: &Section<'_>, members: &BTreeMap<MemberName, Member>) -> Backup {
        let section = root.section("backup");
        let defaults = Backup::default();
        let member = section.text("member").and_then(|given| match given.value {
            "auto" => Some(MemberChoice::Auto),
            "local" => Some(MemberChoice::Local),
            _ => self.known_member(&given, members).map(MemberChoice::Named),
        });
        let require = section.text("require").and_then(|given| match given.value {
            "acknowledged" => Some(Proof::Acknowledged),
            "stored" => Some(Proof::Stored),
            "content" => Some(Proof::Content),
            "hash_kv" => Some(Proof::HashKv),
            _ => self.refuse(&section, "require", &given),
        });
        let hash_kv = section.text("hash_kv").and_then(|given| match given.value {
            "auto" => Some(HashKvPolicy::Auto),
            "always" => Some(HashKvPolicy::Always),
            "never" => Some(HashKvPolicy::Never),
            _ => self.refuse(&section, "hash_kv", &given),
        });
        let idle_timeout = section.text("idle_timeout").and_then(|given| {
            let duration = duration(given.value).filter(|duration| IDLE_TIMEOUTS.contains(duration));
            duration.or_else(|| self.refuse(&section, "idle_timeout", &given))
        });
        let finish_within = section.text("finish_within").and_then(|given| {
            let duration = duration(given.value).filter(|duration| FINISH_WITHINS.contains(duration));
            duration.or_else(|| self.refuse(&section, "finish_within", &given))
        });
        let pace = section.text("pace").and_then(|given| self.parsed(&given));
        Backup {
            member: member.unwrap_or(defaults.member),
            hash_kv: hash_kv.unwrap_or(defaults.hash_kv),
            require: require.unwrap_or(defaults.require),
            idle_timeout: idle_timeout.unwrap_or(defaults.idle_timeout),
            finish_within: finish_within.unwrap_or(defaults.finish_within),
            pace: pace.unwrap_or(defaults.pace),
        }
    }
}
