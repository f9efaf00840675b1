//! Looks at a member that was started, until it can be told how it is.

use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::init_system::{Activity, Trouble, Units};
use super::member_health::{ClientSight, Course, Health, STABLE, Sight, Writes, judge};
use super::plan::Plan;
use super::quota::OverQuota;
use crate::etcd::{self, Ahead, Member, PeerAnswer, ask_peer};
use crate::model::Revision;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// How long a member may take to answer, at first and later.
const QUICK: Duration = Duration::from_secs(4);
const SLOW: Duration = Duration::from_secs(20);
/// From when on it may take longer.
const UNHURRIED: Duration = Duration::from_secs(60);

/// For how long the init system may not answer.
const MUTE: Duration = Duration::from_secs(30);

/// How members are spoken with.
#[derive(Clone, Default)]
pub struct Access {
    /// As a client.
    pub client: etcd::Access,
    /// As a member.
    pub peer: etcd::Tls,
    /// What a client should have and this one has not, such as its key: that it is not answered then says nothing.
    pub lacks: Option<String>,
}

/// For how long it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until it is up; others may come later.
    Started,
    /// Until it serves.
    Healthy,
}

/// What came of looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// It serves.
    Healthy {
        /// What could not be seen.
        doubt: Option<String>,
    },
    /// It waits for others, of which so many are there.
    Waiting {
        /// Other members of the new cluster that answer.
        there: usize,
        /// What is to be said of those that will never come.
        strangers: Vec<String>,
    },
    /// It will not do.
    Broken(String),
    /// Somebody asked to stop looking.
    Stopped,
}

/// How a unit is that was started on the data it had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revived {
    /// It runs and is ready.
    Up,
    /// It is neither ready nor down.
    NotYet {
        /// In the init system's words.
        words: String,
    },
    /// It does not stay up.
    Down {
        /// In the init system's words.
        words: String,
    },
}

/// Looks at a unit for as long as an etcd needs to find that it cannot run.
pub fn revived(name: &str, units: &dyn Units) -> Result<Revived, Trouble> {
    let until = Instant::now() + STABLE;
    loop {
        let unit = units.state(name)?;
        let is_last = Instant::now() >= until;
        let words = unit.words;
        match unit.activity {
            Activity::Active => return Ok(Revived::Up),
            Activity::Failed => return Ok(Revived::Down { words }),
            Activity::Queued | Activity::Starting if is_last && unit.restarts == 0 => {
                return Ok(Revived::NotYet { words });
            }
            Activity::Queued | Activity::Starting | Activity::Stopping | Activity::Inactive if is_last => {
                return Ok(Revived::Down { words });
            }
            Activity::Queued | Activity::Starting | Activity::Stopping | Activity::Inactive => thread::sleep(EVERY),
        }
    }
}

/// Looks at this host's member until it is as wanted, or will not do, or `stop` says so.
///
/// Fails when the init system has not answered for a while, which says nothing about the member.
pub fn watch(
    plan: &Plan,
    revision: Revision,
    units: &dyn Units,
    access: &Access,
    runtime: &Handle,
    patience: Patience,
    stop: &dyn Fn() -> bool,
) -> Result<Watched, Trouble> {
    let began = Instant::now();
    let mut course = Course::default();
    let (mut restarts_before, mut stable_since) = (None, None);
    let mut last_answer = Instant::now();
    loop {
        // First of all: where the host shuts down, etcd is stopped before this is, and the init system may be gone.
        if stop() {
            return Ok(Watched::Stopped);
        }
        let unit = match units.state(&plan.host.site.unit) {
            Ok(unit) => unit,
            // That it cannot be asked for a moment says nothing about etcd.
            Err(_) if last_answer.elapsed() < MUTE => {
                thread::sleep(EVERY);
                continue;
            }
            Err(error) => return Err(error),
        };
        last_answer = Instant::now();
        let (seen, looked, restarts) = course.look(&unit, began.elapsed());
        // A member without a quorum takes questions and leaves them lying; one on a slow host may need its time.
        let bound = if began.elapsed() < UNHURRIED { QUICK } else { SLOW };
        let (own, client) =
            runtime.block_on(async { tokio::join!(own_answer(plan, access), asked(plan, access, bound)) });
        if restarts_before != Some(unit.restarts) || own.is_none() {
            stable_since = None;
        } else {
            stable_since.get_or_insert_with(Instant::now);
        }
        restarts_before = Some(unit.restarts);
        let sight = Sight {
            unit,
            seen,
            restarts,
            own,
            client,
            looked,
            stable: stable_since.map_or(Duration::ZERO, |since| since.elapsed()),
        };
        match (judge(plan, revision, &sight), patience) {
            (Health::Healthy { doubt }, _) => return Ok(Watched::Healthy { doubt }),
            (Health::Broken(why), _) => return Ok(Watched::Broken(why)),
            (Health::Started, Patience::Started) => {
                return Ok(runtime.block_on(others(plan, access)));
            }
            (Health::Started, Patience::Healthy) | (Health::NotYet, _) => {}
        }
        thread::sleep(EVERY);
    }
}

async fn own_answer(plan: &Plan, access: &Access) -> Option<PeerAnswer> {
    first_answer(plan.own_peer_urls(), access).await
}

async fn first_answer(urls: &[String], access: &Access) -> Option<PeerAnswer> {
    for url in urls {
        if let Ok(answer) = ask_peer(url, &access.peer).await {
            return Some(answer);
        }
    }
    None
}

/// Which of the others are members of the new cluster already, and which of another one.
async fn others(plan: &Plan, access: &Access) -> Watched {
    let answers = peers(plan, access).await;
    let is_ours = |answer: &Option<PeerAnswer>| {
        answer
            .as_ref()
            .is_some_and(|answer| Some(answer.cluster) == plan.cluster_id())
    };
    Watched::Waiting {
        there: answers.iter().filter(|(_, answer)| is_ours(answer)).count(),
        strangers: strangers(plan, &answers),
    }
}

/// What is to be said of those that run as members of another cluster: they are waited for in vain.
pub fn strangers(plan: &Plan, answers: &[(String, Option<PeerAnswer>)]) -> Vec<String> {
    let others = answers.iter().filter_map(|(name, answer)| {
        let (theirs, own) = (answer.as_ref()?.cluster, plan.cluster_id()?);
        (theirs != own).then(|| {
            format!(
                "{name} runs as a member of cluster {theirs}, and this host of {own}: the two never come together. \
                 Restore the same backup on both; where it was another one, `lifeboat rollback` first"
            )
        })
    });
    others.collect()
}

/// What the other members say at their peer ports, by name; `None` for those that do not answer.
pub async fn peers(plan: &Plan, access: &Access) -> Vec<(String, Option<PeerAnswer>)> {
    let planned = plan.peers().map(|(name, urls)| (name.to_owned(), urls.to_vec()));
    ask_all(planned, access).await
}

/// What members say at the first of their peer ports that answers, by name; `None` for those that do not answer.
pub async fn ask_all(
    members: impl IntoIterator<Item = (String, Vec<String>)>,
    access: &Access,
) -> Vec<(String, Option<PeerAnswer>)> {
    let asked = members.into_iter().map(|(name, urls)| {
        let access = access.clone();
        tokio::spawn(async move { (name, first_answer(&urls, &access).await) })
    });
    let mut answers = Vec::new();
    for task in asked.collect::<Vec<_>>() {
        answers.extend(task.await);
    }
    answers
}

/// What the first of its client URLs says that says anything, all of them within `bound`.
async fn asked(plan: &Plan, access: &Access, bound: Duration) -> ClientSight {
    let tasks = plan.host.site.client_urls.iter().map(|url| {
        let (url, access, quota) = (url.clone(), access.clone(), plan.host.site.quota_bytes);
        tokio::spawn(async move { tokio::time::timeout(bound, serves(&url, &access, quota)).await })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut last = ClientSight::Silent("no client URL is known".to_owned());
    for task in tasks {
        let sight = match task.await {
            Ok(Ok(Ok(sight))) => sight,
            Ok(Ok(Err(error @ etcd::Error::Denied { .. }))) => {
                ClientSight::Denied(format!("etcd refuses us ({error}): set [cluster.auth]"))
            }
            Ok(Ok(Err(error))) => ClientSight::Silent(error.to_string()),
            Ok(Err(_)) => ClientSight::Silent(format!("no answer within {} s", bound.as_secs())),
            Err(error) => ClientSight::Silent(error.to_string()),
        };
        match (&sight, &last) {
            (ClientSight::Serves { .. }, _) => return sight,
            (_, ClientSight::Denied(_)) => {}
            (_, _) => last = sight,
        }
    }
    heard(last, access)
}

/// What is to be made of an answer by one who may not have shown what a client must.
fn heard(sight: ClientSight, access: &Access) -> ClientSight {
    match (sight, &access.lacks) {
        (ClientSight::Silent(why), Some(lack)) => ClientSight::Denied(format!("{lack} ({why})")),
        (sight @ (ClientSight::Silent(_) | ClientSight::Denied(_) | ClientSight::Serves { .. }), _) => sight,
    }
}

async fn serves(url: &str, access: &Access, quota: Option<u64>) -> Result<ClientSight, etcd::Error> {
    let mut member = Member::connect(url, &access.client, Ahead::Far).await?;
    let status = member.status().await?;
    if status.leader.is_none() {
        // A read that comes before there is a leader is left lying for seconds.
        return Ok(ClientSight::Silent("it knows no leader yet".to_owned()));
    }
    let revision = member.current_revision().await?;
    // Over the quota even a write that changes nothing would raise the alarm.
    let writes = match OverQuota::of(status.db_bytes, quota) {
        Some(over) => Writes::Refused(over.to_string()),
        None => written(member.try_write().await)?,
    };
    Ok(ClientSight::Serves {
        cluster: status.cluster,
        member: status.member,
        revision,
        writes,
    })
}

/// What a member that serves reads has made of a write.
fn written(outcome: Result<(), etcd::Error>) -> Result<Writes, etcd::Error> {
    match outcome {
        Ok(()) => Ok(Writes::Taken),
        Err(error @ etcd::Error::Denied { .. }) => Ok(Writes::Refused(format!(
            "{error}: whether it takes writes could not be tried as this user"
        ))),
        Err(error) if error.is_lack_of_space() => Ok(Writes::Refused(format!(
            "{error}. Its database has come to its quota: raise `quota-backend-bytes` and restart it, or make the database \
             smaller with `etcdctl defrag`; then `etcdctl alarm disarm`"
        ))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_refused_for_want_of_space_or_a_right_is_told_and_no_silence() {
        let url = "http://a:2379".to_owned();
        let refused = |reason: &str| etcd::Error::Call {
            url: url.clone(),
            call: "Txn",
            reason: reason.to_owned(),
        };
        assert_eq!(written(Ok(())).unwrap(), Writes::Taken);
        let full = written(Err(refused("etcdserver: mvcc: database space exceeded"))).unwrap();
        assert!(matches!(full, Writes::Refused(why) if why.contains("alarm disarm")));
        let denied = etcd::Error::Denied {
            url: url.clone(),
            call: "Txn",
            reason: "permission denied".to_owned(),
        };
        assert!(matches!(written(Err(denied)), Ok(Writes::Refused(_))));
        assert!(written(Err(refused("no leader"))).is_err());
    }

    #[test]
    fn silence_tells_nothing_to_one_who_lacks_what_a_client_must_show() {
        let silent = || ClientSight::Silent("no answer".to_owned());
        let complete = Access::default();
        assert_eq!(heard(silent(), &complete), silent());
        let lacking = Access {
            lacks: Some("no key".to_owned()),
            ..complete
        };
        let denied = ClientSight::Denied("no key (no answer)".to_owned());
        assert_eq!(heard(silent(), &lacking), denied);
        assert_eq!(heard(denied.clone(), &lacking), denied);
    }
}
