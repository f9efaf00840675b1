//! Asks the hosts of the other members, and answers them, until it is clear who founds the new cluster.
//!
//! It only asks: nothing that comes in unasked changes anything. Whoever is asked is reached at a member's own peer address,
//! with the certificates that etcd itself uses there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::member_watch::Access;
use super::plan::Plan;
use super::rendezvous::{Founders, Heard, MOST_BYTES, Meeting, Next, Presence, Told};
use crate::etcd::{self, PeerClient, PeerPort, PeerPortError, PeerSight};
use crate::model::ClusterId;

/// What is asked for at a peer address.
const PATH: &str = "/lifeboat/restore";
/// How often a member is asked that answers, or that may be about to.
const OFTEN: Duration = Duration::from_millis(100);
/// How often one is asked that has been silent for longer than [`SOON`].
const SELDOM: Duration = Duration::from_secs(1);
/// Hosts on which the same command is typed at the same time come this soon one after the other.
const SOON: Duration = Duration::from_secs(60);
/// How long nobody may answer where one run takes over from another.
const HAND_OVER: Duration = Duration::from_secs(2);

/// How another member is, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The member.
    pub name: String,
    /// How it is, in words.
    pub words: String,
    /// Since when that is so.
    pub since: Timestamp,
}

/// The rendezvous of one restore, for as long as this lives.
pub(super) struct Gathering {
    shared: Arc<Shared>,
    asking: Vec<JoinHandle<()>>,
    port: Option<PeerPort>,
    urls: Vec<String>,
    access: Access,
    runtime: Handle,
}

struct Shared {
    state: Mutex<State>,
    told: watch::Sender<Vec<u8>>,
    now: fn() -> Timestamp,
}

struct State {
    meeting: Meeting,
    since: BTreeMap<String, (Presence, Timestamp, Instant)>,
    /// What held the rendezvous up at each member when it was last heard.
    troubles: BTreeMap<String, String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was heard, and tells what follows from it.
    fn hear(&self, name: &str, heard: Heard) {
        let mut state = self.state();
        state.meeting.hear(name, heard);
        self.look(&mut state);
    }

    fn look(&self, state: &mut State) {
        let (now, instant) = ((self.now)(), Instant::now());
        for (name, presence) in state.meeting.presences() {
            let known = state.since.get(&name).is_some_and(|(known, ..)| *known == presence);
            match &presence {
                Presence::Missing => {}
                well if well.is_well() => drop(state.troubles.remove(&name)),
                trouble => drop(state.troubles.insert(name.clone(), trouble.words(&name))),
            }
            if !known {
                state.since.insert(name, (presence, now, instant));
            }
        }
        let told = state.meeting.told().to_bytes();
        self.told.send_if_modified(|before| {
            let is_new = *before != told;
            *before = told;
            is_new
        });
    }
}

impl Gathering {
    /// Begins to ask, and to answer as soon as [`Gathering::listen`] can.
    pub(super) fn begin(
        plan: &Plan,
        access: &Access,
        runtime: &Handle,
        now: fn() -> Timestamp,
    ) -> Result<Gathering, etcd::Error> {
        let stand = plan.host.stand.clone().expect("the members have to meet");
        let meeting = Meeting::new(&plan.host.site.member, plan.cluster.terms(), stand, plan.cluster_id());
        let told = watch::Sender::new(meeting.told().to_bytes());
        let mut state = State {
            meeting,
            since: BTreeMap::new(),
            troubles: BTreeMap::new(),
        };
        let state = {
            let (now, instant) = (now(), Instant::now());
            let presences = state.meeting.presences().into_iter();
            state.since = presences
                .map(|(name, presence)| (name, (presence, now, instant)))
                .collect();
            Mutex::new(state)
        };
        let shared = Arc::new(Shared { state, told, now });
        let client = PeerClient::new(&access.peer)?;
        let asking = plan.peers().map(|(name, urls)| {
            let (shared, client) = (Arc::clone(&shared), client.clone());
            runtime.spawn(ask(shared, client, name.to_owned(), urls.to_vec()))
        });
        let asking = asking.collect();
        let urls = match plan.host.site.listen_peer_urls.is_empty() {
            true => plan.own_peer_urls().to_vec(),
            false => plan.host.site.listen_peer_urls.clone(),
        };
        Ok(Gathering {
            shared,
            asking,
            port: None,
            urls,
            access: access.clone(),
            runtime: runtime.clone(),
        })
    }

    /// Answers at this member's peer address, if it does not yet.
    pub(super) fn listen(&mut self) -> Result<(), PeerPortError> {
        if self.port.is_none() {
            let told = self.shared.told.subscribe();
            self.port = Some(PeerPort::open(
                &self.urls,
                &self.access.peer,
                PATH,
                &told,
                &self.runtime,
            )?);
        }
        Ok(())
    }

    /// What comes next.
    pub(super) fn next(&self) -> Next {
        self.shared.state().meeting.next()
    }

    /// Tells that this host has committed, which stands in its ledger by now.
    pub(super) fn commit(&self, founders: Founders, cluster: ClusterId) {
        let mut state = self.shared.state();
        state.meeting.commit(founders, cluster);
        self.shared.look(&mut state);
    }

    /// Whether nobody needs to hear from this host any more.
    pub(super) fn is_known_to_all(&self) -> bool {
        self.shared.state().meeting.is_known_to_all()
    }

    /// The first member at whose address an etcd of another cluster has run for some time.
    pub(super) fn lives(&self, for_at_least: Duration) -> Option<String> {
        let state = self.shared.state();
        let lives = state.since.iter().find(|(_, (presence, _, since))| {
            matches!(presence, Presence::Serves(_)) && since.elapsed() >= for_at_least
        });
        lives.map(|(name, (presence, ..))| presence.words(name))
    }

    /// How the others are.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let state = self.shared.state();
        let seen = state.since.iter().map(|(name, (presence, since, _))| Seen {
            name: name.clone(),
            words: presence.words(name),
            since: *since,
        });
        seen.collect()
    }

    /// How many of the others are there, and what the operator should hear of those that hold it up.
    pub(super) fn result(&self) -> (usize, Vec<String>) {
        let state = self.shared.state();
        let is_there = |presence: &Presence| presence.is_well() && *presence != Presence::Missing;
        let there = state.since.values().filter(|(presence, ..)| is_there(presence)).count();
        (there, state.troubles.values().cloned().collect())
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.asking.iter().for_each(JoinHandle::abort);
    }
}

/// How the other members are, before anything is begun. Who is silent is asked for a moment: where a restore is left to the
/// background, nobody answers until that has begun.
pub fn look_around(plan: &Plan, access: &Access, runtime: &Handle) -> Result<BTreeMap<String, Presence>, etcd::Error> {
    let Some(stand) = plan.host.stand.clone() else {
        return Ok(BTreeMap::new());
    };
    let client = PeerClient::new(&access.peer)?;
    let mut meeting = Meeting::new(&plan.host.site.member, plan.cluster.terms(), stand, plan.cluster_id());
    let asked: Vec<_> = plan
        .peers()
        .map(|(name, urls)| {
            let (client, name, urls) = (client.clone(), name.to_owned(), urls.to_vec());
            runtime.spawn(async move {
                let until = Instant::now() + HAND_OVER;
                loop {
                    match heard(&client, &urls).await {
                        Heard::Silence if Instant::now() < until => tokio::time::sleep(OFTEN).await,
                        heard => return (name, heard),
                    }
                }
            })
        })
        .collect();
    for task in asked {
        if let Ok((name, heard)) = runtime.block_on(task) {
            meeting.hear(&name, heard);
        }
    }
    Ok(meeting.presences())
}

/// Asks one member for as long as this is not aborted.
async fn ask(shared: Arc<Shared>, client: PeerClient, name: String, urls: Vec<String>) {
    let mut answered = Instant::now();
    loop {
        let heard = heard(&client, &urls).await;
        if heard != Heard::Silence {
            answered = Instant::now();
        }
        let pause = if answered.elapsed() > SOON { SELDOM } else { OFTEN };
        shared.hear(&name, heard);
        tokio::time::sleep(pause).await;
    }
}

/// What is heard at the first of a member's addresses that answers.
async fn heard(client: &PeerClient, urls: &[String]) -> Heard {
    for url in urls {
        match client.look(url, PATH, MOST_BYTES).await {
            Ok(PeerSight::Etcd(answer)) => return Heard::Serves(answer.cluster),
            Ok(PeerSight::Document(document)) => {
                return match Told::parse(&document) {
                    Some(told) => Heard::Told(told),
                    None => Heard::Strange("it answers what no lifeboat says".to_owned()),
                };
            }
            Ok(PeerSight::Strange(what)) => return Heard::Strange(what),
            Err(etcd::Error::Nonsense { what, .. }) => return Heard::Strange(what),
            Err(_) => {}
        }
    }
    Heard::Silence
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::plan::tests::wish;
    use super::*;
    use crate::etcd::Tls;

    #[test]
    fn a_member_is_heard_at_whichever_of_its_addresses_answers() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (dead, live) = (format!("http://{}", free()), format!("http://{}", free()));
        let plan = Plan::new(wish(&format!("m1=http://a:2380,m2={dead},m2={live}"))).unwrap();
        let stand = plan.host.stand.clone().unwrap();
        let told = Meeting::new("m2", plan.cluster.terms(), stand, None).told();
        let (_sender, answers) = watch::channel(told.to_bytes());
        let port = PeerPort::open(
            std::slice::from_ref(&live),
            &Tls::default(),
            PATH,
            &answers,
            runtime.handle(),
        )
        .unwrap();
        let around = look_around(&plan, &Access::default(), runtime.handle()).unwrap();
        assert_eq!(around["m2"], Presence::Present);
        drop(port);
        let around = look_around(&plan, &Access::default(), runtime.handle()).unwrap();
        assert_eq!(around["m2"], Presence::Missing);
    }
}
