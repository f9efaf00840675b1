//! What a member reports of its data, and whether another one reports the same.

use std::time::Duration;

use crate::etcd::{Access, Ahead, Endpoints, Error, Member, survey};
use crate::model::{ClusterId, HashKv, MemberId};

/// A leader is asked up to this size: its writes wait meanwhile.
pub(super) const LARGEST_OF_LEADER: u64 = 1 << 30;
/// How often two reports are asked for that can be compared: not while a compaction goes on between them.
const TRIES: u32 = 3;
/// How often, and how far apart, one that lags is asked.
const LAGS: (u32, Duration) = (10, Duration::from_millis(200));

/// What comes of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The hash that two members report.
    Of(HashKv),
    /// That of the only one that could be asked.
    OfOne(HashKv),
    /// Two members report different hashes of one revision.
    Differs {
        /// Which two.
        between: String,
        /// The same in words, with what each reports.
        how: String,
    },
}

/// A member that may be asked.
struct Asked {
    name: String,
    id: MemberId,
    leads: bool,
    connection: Member,
}

/// Has the member that is watched tell its hash, and another one that of the same revision. Only members of `cluster` are asked:
/// followers before the leader, which is not where its database is large. None where nobody can be, or where what they tell cannot
/// be compared.
pub async fn report(members: &[Endpoints], access: &Access, cluster: ClusterId, watched: MemberId) -> Option<Report> {
    let surveyed = survey(members, access, Ahead::Little).await;
    let may_be_asked = surveyed.into_iter().filter_map(|member| {
        let status = member.candidate.answer.ok()?;
        let may = status.cluster == cluster
            && !status.learner
            && status.leader.is_some()
            && !status.is_corrupt()
            && (!status.leads() || status.db_bytes <= LARGEST_OF_LEADER);
        let (name, id, leads) = (member.candidate.name, status.member, status.leads());
        member.connection.filter(|_| may).map(|connection| Asked {
            name,
            id,
            leads,
            connection,
        })
    });
    let mut asked: Vec<Asked> = may_be_asked.collect();
    asked.sort_by_key(|asked| (asked.id != watched, asked.leads));
    for _ in 0..TRIES {
        match ask(&mut asked).await {
            Answer::Report(report) => return Some(report),
            Answer::Nobody => return None,
            Answer::NotComparable => {}
        }
    }
    None
}

enum Answer {
    Report(Report),
    /// They hash what different compactions left.
    NotComparable,
    Nobody,
}

async fn ask(asked: &mut [Asked]) -> Answer {
    let mut asked = asked.iter_mut();
    let first = loop {
        let Some(member) = asked.next() else {
            return Answer::Nobody;
        };
        if let Ok(hash) = member.connection.hash_kv_now().await {
            break (member, hash);
        }
    };
    let (member, own) = first;
    for other in asked.filter(|other| other.id != member.id) {
        let Some(hash) = hash_at(&mut other.connection, &own).await else {
            continue;
        };
        return match compared(&own, &hash) {
            Compared::Equal => Answer::Report(Report::Of(own)),
            Compared::Not => Answer::NotComparable,
            // Where no key is alive, etcd hashes whatever its compaction has left so far.
            Compared::Differ if own.compact_revision > 0 && !has_keys(&mut member.connection, &own).await => {
                Answer::NotComparable
            }
            Compared::Differ => Answer::Report(Report::Differs {
                between: format!("{} and {}", member.name, other.name),
                how: format!(
                    "HashKV differs between members at revision {}: {} of {}, {} of {}",
                    own.revision, own.hash, member.name, hash.hash, other.name
                ),
            }),
        };
    }
    Answer::Report(Report::OfOne(own))
}

/// What another member reports of the same revision, once it has come to it.
async fn hash_at(member: &mut Member, of: &HashKv) -> Option<HashKv> {
    for _ in 0..LAGS.0 {
        match member.hash_kv(of.revision).await {
            Ok(hash) => return Some(hash),
            Err(Error::NoSuchRevision { reason, .. }) if reason.contains("future") => {
                tokio::time::sleep(LAGS.1).await;
            }
            Err(_) => return None,
        }
    }
    None
}

async fn has_keys(member: &mut Member, of: &HashKv) -> bool {
    member.count_keys(of.revision).await.is_ok_and(|keys| keys > 0)
}

/// How two reports are to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Equal,
    Differ,
    /// They are of different revisions, or of what different compactions left.
    Not,
}

/// How `one` is to `other`.
pub(super) fn compared(one: &HashKv, other: &HashKv) -> Compared {
    match (one.revision, one.compact_revision) == (other.revision, other.compact_revision) {
        false => Compared::Not,
        true if one.hash == other.hash => Compared::Equal,
        true => Compared::Differ,
    }
}
