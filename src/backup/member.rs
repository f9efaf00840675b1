//! The member that a backup is taken from: which one, what it says of itself, and whether the others agree with it.

use std::time::Duration;

use super::Pulse;
use super::failure::GivenUp;
use super::full::{HashKvPolicy, Job};
use super::pace::Pace;
use super::proof::{Verdict, judge};
use super::snapshot_observer::Facts;
use crate::catalog::{NewBackup, Quorum};
use crate::etcd::choose_member::{Candidate, Choice, NoChoice, Role, choose};
use crate::etcd::{self, Member, Status, complaints, survey};
use crate::layout::{IN_DOUBT, Proof};
use crate::model::{ByteSize, HashKv, Revision};

/// An only member is asked for HashKV up to this size: its clients wait meanwhile.
const HASH_KV_ALONE_BYTES: u64 = 1 << 30;

/// A database of this size is hashed in some milliseconds.
const SOON_HASHED: u64 = 64 << 20;

/// A stream of this length may well outlast what etcd keeps of its history.
const LONG_STREAM: Duration = Duration::from_secs(60);

/// How long another member may take to hash what the backup holds: the backup waits for it.
const OTHERS_WITHIN: Duration = Duration::from_secs(60);

/// The member that is asked, and what it said of itself and its cluster.
pub(super) struct Asked {
    pub connection: Member,
    pub status: Status,
    /// Its name in the configuration.
    pub name: String,
    /// Its own name.
    pub own_name: String,
    role: Role,
    quorum: Quorum,
    voters: usize,
    complaints: Vec<String>,
    others: Vec<Answering>,
    /// HashKV as it was just before the stream.
    before: Option<HashKv>,
}

/// The member that is to be asked, which has told no more than how it is.
pub(super) struct Chosen {
    member: Answering,
    role: Role,
    complaints: Vec<String>,
    others: Vec<Answering>,
}

/// A member that answers.
struct Answering {
    name: String,
    connection: Member,
    status: Status,
}

/// What HashKV and the number of keys came to.
pub(super) struct Asserted {
    pub hash_kv: Result<HashKv, String>,
    pub keys: Option<u64>,
    /// How it differs from that of the others.
    pub differs: Option<String>,
    /// How far the backup is proven by that.
    pub verdict: Verdict,
}

/// Chooses a member, but none of those that were given up.
pub(super) async fn choose_one(job: &Job, given_up: &[GivenUp]) -> Result<Chosen, NoChoice> {
    let surveyed = survey(&job.members, &job.access, job.pace.ahead()).await;
    let answers = surveyed.into_iter().map(|member| (member.candidate, member.connection));
    let (candidates, connections): (Vec<_>, Vec<_>) = answers.unzip();
    let passed_over = job.passed_over.iter().map(String::as_str);
    let given_up: Vec<&str> = given_up.iter().map(|member| &*member.name).chain(passed_over).collect();
    let Choice { index, role } = choose(&candidates, &job.wanted, &given_up)?;
    let complaints = complaints(&candidates);
    let (mut chosen, mut others) = (None, Vec::new());
    for (at, (Candidate { name, answer, .. }, connection)) in candidates.into_iter().zip(connections).enumerate() {
        let is_given_up = given_up.contains(&&*name);
        if let (Ok(status), Some(connection)) = (answer, connection) {
            let member = Answering {
                name,
                connection,
                status,
            };
            match at == index {
                true => chosen = Some(member),
                // It has cost this backup enough time.
                false if is_given_up => {}
                false => others.push(member),
            }
        }
    }
    Ok(Chosen {
        member: chosen.expect("who is chosen has answered"),
        role,
        complaints,
        others,
    })
}

impl Chosen {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// Asks it for its cluster, through the quorum where it has one.
    pub async fn ask(self) -> Result<Asked, etcd::Error> {
        let Chosen {
            member:
                Answering {
                    name,
                    mut connection,
                    status,
                },
            role,
            complaints,
            others,
        } = self;
        let mut own_name = name.clone();
        let (voters, quorum) = match status.learner {
            // It lists no members, and answers no read that goes through the quorum.
            true => (
                others.iter().filter(|other| !other.status.learner).count(),
                Quorum::Silent,
            ),
            false => {
                let members = connection.members().await?;
                let voters = members.iter().filter(|member| !member.learner).count();
                if let Some(own) = members.into_iter().find(|member| member.id == status.member) {
                    own_name = own.name;
                }
                let quorum = match connection.current_revision().await {
                    Ok(_) => Quorum::Answered,
                    Err(error) if error.is_lack_of_quorum() => Quorum::Silent,
                    Err(error) => return Err(error),
                };
                (voters, quorum)
            }
        };
        Ok(Asked {
            connection,
            status,
            name,
            own_name,
            role,
            quorum,
            voters,
            complaints,
            others,
            before: None,
        })
    }
}

impl Asked {
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.complaints.clone();
        if self.status.learner {
            warnings.push(format!(
                "{} is a learner: it may lag behind, so this backup may lack the last changes that the others have",
                self.name
            ));
        } else if self.quorum == Quorum::Silent {
            warnings.push(format!(
                "{} does not reach its quorum: this backup may lack the last changes that the others have",
                self.name
            ));
        }
        warnings
    }

    pub fn new_backup(&self, facts: &Facts) -> NewBackup {
        NewBackup {
            cluster: self.status.cluster,
            revision: facts.revision,
            consistent_index: facts.meta.consistent_index,
            raft_term: facts.meta.term,
            quorum: self.quorum,
        }
    }

    /// Asks the member for the number of keys and HashKV of exactly the revision that was backed up, and the others for
    /// the same HashKV.
    pub async fn assert(&mut self, policy: HashKvPolicy, facts: &Facts, pulse: &Pulse) -> Asserted {
        let keys = self.connection.count_keys(facts.revision).await.ok();
        pulse.beat();
        let mut hash_kv = match self.hash_kv_is_borne(policy, facts.database_bytes) {
            Err(reason) => Err(reason),
            Ok(()) => hash_of(&mut self.connection, facts).await,
        };
        pulse.beat();
        let mut verdict = judge(facts, hash_kv.as_ref().copied().map_err(String::as_str), self.before);
        let mut differs = None;
        if let Ok(own) = hash_kv
            && tells_of_data(&own, keys)
            && let Some(dissent) = self.dissent_of_others(own, policy, facts, pulse).await
        {
            if dissent.condemns(&self.name) {
                verdict = Verdict::Wrong(vec![dissent.to_string()]);
            }
            if dissent.is_doubtful(&self.name) {
                (hash_kv, verdict) = in_doubt(dissent.to_string(), verdict);
            }
            differs = Some(dissent.to_string());
        }
        if self.status.is_corrupt() {
            (hash_kv, verdict) = in_doubt(format!("{} is under alarm CORRUPT", self.name), verdict);
        }
        Asserted {
            hash_kv,
            keys,
            differs,
            verdict,
        }
    }

    /// How the others differ from this one, whose HashKV is `own`: followers first, the leader where they do.
    async fn dissent_of_others(
        &mut self,
        own: HashKv,
        policy: HashKvPolicy,
        facts: &Facts,
        pulse: &Pulse,
    ) -> Option<Dissent> {
        let mut hashes = vec![(self.name.clone(), own)];
        let is_always = policy == HashKvPolicy::Always;
        let of_followers = self.of_others(facts, pulse, |status| is_always || !status.leads());
        let (found, all_in_time) = of_followers.await;
        hashes.extend(found);
        // It is worth a pause in the leader's writes to know which of the others is wrong, but no long one.
        let is_short = all_in_time && facts.database_bytes <= HASH_KV_ALONE_BYTES;
        if !is_always && is_short && dissent(&hashes).is_some() {
            hashes.extend(self.of_others(facts, pulse, Status::leads).await.0);
        }
        dissent(&hashes)
    }

    /// Asks for HashKV before the stream begins, where it may well be that the member compacts past the backup's revision
    /// before that can be asked for, and where it costs next to nothing.
    pub async fn foresee(&mut self, policy: HashKvPolicy, pace: Pace) {
        let bytes = self.status.db_bytes;
        let wants = bytes <= SOON_HASHED || pace.takes(bytes) >= LONG_STREAM;
        if wants && self.hash_kv_is_borne(policy, bytes).is_ok() {
            // That it cannot be had is said when it is needed.
            self.before = self.connection.hash_kv_now().await.ok();
        }
    }

    fn hash_kv_is_borne(&self, policy: HashKvPolicy, bytes: u64) -> Result<(), String> {
        match (policy, self.role) {
            (HashKvPolicy::Never, _) => Err("switched off".to_owned()),
            _ if self.status.learner => Err("a learner reports none".to_owned()),
            (HashKvPolicy::Always, _) | (HashKvPolicy::Auto, Role::Follower | Role::CutOff) => Ok(()),
            (HashKvPolicy::Auto, Role::Leader) if self.voters > 1 => {
                Err("only the leader could be asked, and HashKV would stall its writes".to_owned())
            }
            (HashKvPolicy::Auto, Role::Leader) if bytes > HASH_KV_ALONE_BYTES => Err(format!(
                "the only member has {}, and HashKV would stall its writes",
                ByteSize(bytes)
            )),
            (HashKvPolicy::Auto, Role::Leader) => Ok(()),
        }
    }

    /// What those of the other members report that are wanted, and whether all answered in time: one after the other, so
    /// that only one at a time is held up, and no more once one has taken too long.
    async fn of_others(
        &mut self,
        facts: &Facts,
        pulse: &Pulse,
        is_wanted: impl Fn(&Status) -> bool,
    ) -> (Vec<(String, HashKv)>, bool) {
        let mut hashes = Vec::new();
        for other in &mut self.others {
            if other.status.learner || !is_wanted(&other.status) {
                continue;
            }
            let asked = tokio::time::timeout(OTHERS_WITHIN, hash_of(&mut other.connection, facts)).await;
            pulse.beat();
            match asked {
                Ok(Ok(hash)) => hashes.push((other.name.clone(), hash)),
                Ok(Err(_)) => {}
                Err(_) => return (hashes, false),
            }
        }
        (hashes, true)
    }
}

/// Whether a HashKV of `keys` live keys can be compared: where none is alive, etcd hashes whatever its compaction has left
/// so far, which differs between sound members.
fn tells_of_data(hash: &HashKv, keys: Option<u64>) -> bool {
    keys != Some(0) || hash.compact_revision <= 0
}

async fn hash_of(member: &mut Member, facts: &Facts) -> Result<HashKv, String> {
    let asked = member.hash_kv(facts.revision).await;
    let hash = asked.map_err(|error: etcd::Error| error.to_string())?;
    // A member that has just compacted up to this revision answers with what it computed while it did: the hash of
    // entries that are gone, under the compacted revision before.
    match hash.compact_revision < facts.meta.compaction.compact_revision() {
        true => Err("etcd's hash predates its last compaction; cannot compare until the next write".to_owned()),
        false => Ok(hash),
    }
}

/// That the member's own data is in doubt: that the backup equals it proves no more than its structure.
fn in_doubt(why: String, verdict: Verdict) -> (Result<HashKv, String>, Verdict) {
    let verdict = match verdict {
        Verdict::Proven { proof, .. } => Verdict::Proven {
            proof: proof.min(Proof::Content),
            short_of: Some(why.clone()),
        },
        wrong @ Verdict::Wrong(_) => wrong,
    };
    (Err(format!("{IN_DOUBT}{why}")), verdict)
}

/// Members that report different hashes of the same revision.
#[derive(Debug, PartialEq, Eq)]
struct Dissent {
    revision: Revision,
    hashes: Vec<(String, u32)>,
    /// The members that differ from most others; all, where there is no majority.
    minority: Vec<String>,
}

impl Dissent {
    fn is_doubtful(&self, name: &str) -> bool {
        self.minority.iter().any(|member| member == name)
    }

    /// Whether most others agree with one another, and not with this one: then it is the one that is wrong.
    fn condemns(&self, name: &str) -> bool {
        self.is_doubtful(name) && self.minority.len() < self.hashes.len()
    }
}

impl std::fmt::Display for Dissent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hashes: Vec<String> = self
            .hashes
            .iter()
            .map(|(name, hash)| format!("{name} {hash}"))
            .collect();
        let (revision, hashes) = (self.revision, hashes.join(", "));
        write!(f, "HashKV differs between members at revision {revision} ({hashes}): ")?;
        match self.minority.len() == self.hashes.len() {
            true => f.write_str("the data of at least one of them is corrupt"),
            false => write!(f, "the data of {} is corrupt", self.minority.join(" and ")),
        }
    }
}

/// How `hashes` of one revision differ; those under another compacted revision than the first are not compared.
fn dissent(hashes: &[(String, HashKv)]) -> Option<Dissent> {
    let (_, first) = hashes.first()?;
    let comparable = || {
        hashes
            .iter()
            .filter(|(_, hash)| hash.compact_revision == first.compact_revision)
    };
    if comparable().all(|(_, hash)| hash.hash == first.hash) {
        return None;
    }
    let as_many = |hash: u32| comparable().filter(|(_, other)| other.hash == hash).count();
    let is_of_majority = |hash: u32| 2 * as_many(hash) > comparable().count();
    let minority = comparable().filter(|(_, hash)| !is_of_majority(hash.hash));
    Some(Dissent {
        revision: first.revision,
        minority: minority.map(|(name, _)| name.clone()).collect(),
        hashes: comparable().map(|(name, hash)| (name.clone(), hash.hash)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(hashes: &[(&str, u32, i64)]) -> Option<Dissent> {
        let hash_kv = |hash, compact_revision| HashKv {
            revision: Revision::new(7).unwrap(),
            compact_revision,
            hash,
        };
        let hashes = hashes
            .iter()
            .map(|(name, hash, at)| ((*name).to_owned(), hash_kv(*hash, *at)));
        dissent(&hashes.collect::<Vec<_>>())
    }

    #[test]
    fn who_differs_from_most_is_named() {
        assert_eq!(reported(&[]), None);
        assert_eq!(reported(&[("m1", 1, -1)]), None);
        assert_eq!(reported(&[("m1", 1, -1), ("m2", 1, -1)]), None);
        let of_three = reported(&[("m1", 1, 3), ("m2", 2, 3), ("m3", 1, 3)]).unwrap();
        assert_eq!(
            of_three.to_string(),
            "HashKV differs between members at revision 7 (m1 1, m2 2, m3 1): the data of m2 is corrupt"
        );
        assert!(of_three.is_doubtful("m2") && !of_three.is_doubtful("m1"));
        assert!(of_three.condemns("m2") && !of_three.condemns("m1"));
        let of_two = reported(&[("m1", 1, 3), ("m2", 2, 3)]).unwrap();
        assert!(of_two.is_doubtful("m1") && of_two.is_doubtful("m2"));
        assert!(!of_two.condemns("m1"), "nobody knows which of them is wrong");
        assert!(
            of_two
                .to_string()
                .ends_with("the data of at least one of them is corrupt")
        );
    }

    #[test]
    fn what_a_compaction_has_left_of_an_empty_store_is_not_compared() {
        let hash = |compact_revision| HashKv {
            revision: Revision::new(7).unwrap(),
            compact_revision,
            hash: 1,
        };
        assert!(!tells_of_data(&hash(5), Some(0)));
        assert!(tells_of_data(&hash(-1), Some(0)), "it was never compacted");
        assert!(tells_of_data(&hash(5), Some(1)) && tells_of_data(&hash(5), None));
    }

    #[test]
    fn a_member_that_has_compacted_otherwise_cannot_be_compared() {
        assert_eq!(reported(&[("m1", 1, 3), ("m2", 2, 5)]), None);
    }
}
