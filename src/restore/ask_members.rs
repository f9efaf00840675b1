//! Asks who of the cluster runs and who serves, before anything is done.

use std::time::{Duration, Instant};

use super::member_watch::{Access, ask_all};
use super::quorum::{Found, Heard};
use crate::etcd::{self, Ahead, Member, PeerAnswer, PeerMember};
use crate::model::ClusterId;

/// How long a member may take to answer a read; one without a leader lets it lie.
const BOUND: Duration = Duration::from_secs(6);
/// How long a member may be without a leader, which those that are left elect when it is lost, and how often that is looked at.
/// etcd's own election timeout is 1 s, and an election begins within twice that. It allows one of up to 50 s: where it is set to
/// more than 2 s, members that elect may be taken for such as have lost their quorum.
const ELECTION: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The clusters of which a member answers at one of these peer addresses (by name); `known_clients` are client URLs besides
/// those that the members list themselves, by the member's name.
pub async fn look_for_clusters(
    asked: &[(String, String)],
    known_clients: &[(String, Vec<String>)],
    access: &Access,
) -> Vec<Found> {
    let at_once = asked.iter().map(|(name, url)| (name.clone(), vec![url.clone()]));
    let answers = ask_all(at_once, access).await;
    let mut clusters: Vec<PeerAnswer> = Vec::new();
    for answer in answers.into_iter().filter_map(|(_, answer)| answer) {
        // One that was cut off may list members that are long gone, or not know yet that one has served; who knows most is the
        // most careful.
        let served = |answer: &PeerAnswer| {
            answer
                .members
                .iter()
                .filter(|member| !member.client_urls.is_empty())
                .count()
        };
        let known = |answer: &PeerAnswer| (answer.members.len(), served(answer));
        match clusters.iter_mut().find(|other| other.cluster == answer.cluster) {
            Some(other) if known(other) < known(&answer) => *other = answer,
            Some(_) => {}
            None => clusters.push(answer),
        }
    }
    let mut found = Vec::new();
    for PeerAnswer { cluster, members } in clusters {
        let heard = members.into_iter().map(|member| {
            let more = known_clients.iter().find(|(name, _)| *name == member.name);
            let more = more.map_or(Vec::new(), |(_, urls)| urls.clone());
            let access = access.clone();
            tokio::spawn(async move {
                let heard = hear(cluster, &member, &more, &access).await;
                (member, heard)
            })
        });
        let mut members = Vec::new();
        for task in heard.collect::<Vec<_>>() {
            members.extend(task.await);
        }
        found.push(Found { cluster, members });
    }
    found
}

async fn hear(cluster: ClusterId, member: &PeerMember, more: &[String], access: &Access) -> Heard {
    let asked = ask_all([(member.name.clone(), member.peer_urls.clone())], access).await;
    let runs = asked
        .into_iter()
        .any(|(_, answer)| answer.is_some_and(|answer| answer.cluster == cluster));
    let mut heard = if runs { Heard::Runs } else { Heard::Silent };
    let more = more.iter().filter(|url| !member.client_urls.contains(url));
    // One election, however many addresses the member has.
    let began = Instant::now();
    for url in member.client_urls.iter().chain(more) {
        let answer = loop {
            let answer = tokio::time::timeout(BOUND, reads(url, cluster, member, access)).await;
            match answer {
                Ok(Some(Read::NotNow(_))) if began.elapsed() < ELECTION => tokio::time::sleep(LOOK_EVERY).await,
                answer => break answer.map(|read| read.map(Read::heard)),
            }
        };
        match answer.unwrap_or_else(|_| Some(Heard::Stuck(format!("no answer within {} s", BOUND.as_secs())))) {
            Some(Heard::Serves) => return Heard::Serves,
            Some(stuck @ Heard::Stuck(_)) if runs => heard = stuck,
            Some(Heard::Runs) => heard = Heard::Runs,
            Some(Heard::Stuck(_) | Heard::Silent) | None => {}
        }
    }
    heard
}

/// What came of a read.
enum Read {
    /// This was heard.
    Heard(Heard),
    /// The member does not serve at the moment, in words why: it knows no leader, or has just lost it.
    NotNow(String),
}

impl Read {
    fn heard(self) -> Heard {
        match self {
            Read::Heard(heard) => heard,
            Read::NotNow(why) => Heard::Stuck(why),
        }
    }
}

/// What a member says at a client address; nothing where that is not reached or is another member's.
async fn reads(url: &str, cluster: ClusterId, member: &PeerMember, access: &Access) -> Option<Read> {
    let mut connection = match Member::connect(url, &access.client, Ahead::Far).await {
        Ok(connection) => connection,
        Err(_) => return None,
    };
    let status = match connection.status().await {
        Ok(status) => status,
        Err(etcd::Error::Denied { .. }) => return Some(Read::Heard(Heard::Runs)),
        Err(error) => return Some(Read::Heard(Heard::Stuck(error.to_string()))),
    };
    if (status.cluster, status.member) != (cluster, member.id) {
        return None;
    }
    if status.leader.is_none() {
        return Some(Read::NotNow("it has no leader".to_owned()));
    }
    match connection.current_revision().await {
        Ok(_) => Some(Read::Heard(Heard::Serves)),
        // It knows a leader, and only we may not read.
        Err(etcd::Error::Denied { .. }) => Some(Read::Heard(Heard::Serves)),
        Err(error) => Some(Read::NotNow(error.to_string())),
    }
}
