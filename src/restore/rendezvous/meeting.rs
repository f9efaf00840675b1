//! One host's side of the rendezvous: what it has heard, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{FORMAT, Founders, Nonce, Terms, Told, plain};
use crate::model::ClusterId;

/// What a host must never forget of a rendezvous; it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The nonce of this restore on this host.
    pub nonce: Nonce,
    /// What it has committed to.
    pub founders: Option<Founders>,
}

/// What was last heard at a member's peer address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Nothing.
    Silence,
    /// A host that restores.
    Told(Told),
    /// An etcd that runs.
    Serves(ClusterId),
    /// Something that neither is an etcd nor restores.
    Strange(String),
}

/// How another member is, as far as it was heard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "what", rename_all = "snake_case")]
pub enum Presence {
    /// It does not answer.
    Missing,
    /// It restores the same.
    Present,
    /// It has committed to what this host has committed to.
    Committed,
    /// Its etcd runs as a member of the new cluster.
    Started,
    /// It restores something else.
    Differs(Vec<String>),
    /// It has another nonce than the one that this host has committed to.
    Forgot,
    /// It has committed to founders of which this restore is none.
    Elsewhere,
    /// Its etcd runs as a member of another cluster.
    Serves(ClusterId),
    /// What answers there is none of the members.
    Stranger(String),
}

impl Presence {
    /// Whether nothing has to be mended for the rendezvous to get on.
    pub fn is_well(&self) -> bool {
        matches!(
            self,
            Presence::Missing | Presence::Present | Presence::Committed | Presence::Started
        )
    }

    /// How it is, for the operator; `name` is the member.
    pub fn words(&self, name: &str) -> String {
        match self {
            Presence::Missing => format!("{name} does not answer"),
            Presence::Present => format!("{name} is there"),
            Presence::Committed => format!("{name} is there and has committed"),
            Presence::Started => format!("{name} has started"),
            Presence::Differs(what) => format!(
                "{name} restores something else: {}. Run `lifeboat rollback` on one of the two, then restore the same backup \
                 with the same members there",
                what.join("; ")
            ),
            Presence::Forgot => format!(
                "{name} has lost its part of this restore, or began another one: run `lifeboat rollback` on every host, then \
                 restore again"
            ),
            Presence::Elsewhere => format!(
                "{name} waits to found a cluster with an earlier restore of this host, which is gone: run `lifeboat rollback` on \
                 every host, then restore again"
            ),
            Presence::Serves(cluster) => format!(
                "an etcd of cluster {cluster} runs at {name}: that cluster lives. If it is to be replaced, stop etcd there and \
                 restore there too; if not, run `lifeboat rollback` here"
            ),
            Presence::Stranger(what) => format!("what answers at the address of {name} is no member: {what}"),
        }
    }
}

/// What a host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It waits.
    Wait,
    /// It writes down that it has committed to these founders, and then tells it.
    Commit(Founders),
    /// All have committed: etcd may start.
    Start,
}

/// One host's side.
#[derive(Debug, Clone)]
pub struct Meeting {
    own: String,
    terms: Terms,
    stand: Stand,
    /// The cluster of the founders that it has committed to.
    cluster: Option<ClusterId>,
    heard: BTreeMap<String, Heard>,
    /// Who has told that it has committed to the same founders.
    committed: BTreeSet<String>,
    /// Whether somebody has told that all have.
    told_ready: bool,
}

impl Meeting {
    /// Member `own` of those in `terms`, who has heard nothing yet; `cluster` is that of the founders it has committed to.
    pub fn new(own: &str, terms: Terms, stand: Stand, cluster: Option<ClusterId>) -> Meeting {
        let others = terms.members.keys().filter(|name| *name != own);
        let heard = others.map(|name| (name.clone(), Heard::Silence)).collect();
        Meeting {
            own: own.to_owned(),
            terms,
            stand,
            cluster,
            heard,
            committed: BTreeSet::new(),
            told_ready: false,
        }
    }

    /// Takes in what was heard at the address of another member.
    pub fn hear(&mut self, name: &str, heard: Heard) {
        if !self.heard.contains_key(name) {
            return;
        }
        match presence(self, name, &heard) {
            Presence::Committed => {
                self.committed.insert(name.to_owned());
                self.told_ready |= matches!(&heard, Heard::Told(told) if told.ready);
            }
            // It started, so all had committed.
            Presence::Started => self.told_ready = true,
            // Who is silent may be starting.
            Presence::Missing => {}
            Presence::Present
            | Presence::Differs(_)
            | Presence::Forgot
            | Presence::Elsewhere
            | Presence::Serves(_)
            | Presence::Stranger(_) => {
                self.committed.remove(name);
            }
        }
        self.heard.insert(name.to_owned(), heard);
    }

    /// Notes what it has committed to, once that is on the disk; `cluster` is the cluster that these founders make.
    pub fn commit(&mut self, founders: Founders, cluster: ClusterId) {
        self.stand.founders = Some(founders);
        self.cluster = Some(cluster);
        for (name, heard) in self.heard.clone() {
            self.hear(&name, heard);
        }
    }

    /// What it does next.
    pub fn next(&self) -> Next {
        match &self.stand.founders {
            Some(_) if self.told_ready || self.heard.keys().all(|name| self.committed.contains(name)) => Next::Start,
            Some(_) => Next::Wait,
            None => self.founders().map_or(Next::Wait, Next::Commit),
        }
    }

    /// What it tells whoever asks.
    pub fn told(&self) -> Told {
        Told {
            format: FORMAT,
            member: self.own.clone(),
            terms: self.terms.clone(),
            nonce: self.stand.nonce,
            seen: self.seen(),
            founders: self.stand.founders.clone(),
            ready: self.next() == Next::Start,
        }
    }

    /// How each of the others is.
    pub fn presences(&self) -> BTreeMap<String, Presence> {
        let others = self.heard.iter();
        others
            .map(|(name, heard)| (name.clone(), presence(self, name, heard)))
            .collect()
    }

    /// Whether all others know that all have committed, so that nobody needs to hear it from this host any more.
    pub fn is_known_to_all(&self) -> bool {
        let knows = |heard: &Heard| match heard {
            Heard::Told(told) => told.ready,
            Heard::Serves(cluster) => Some(*cluster) == self.cluster,
            Heard::Silence | Heard::Strange(_) => false,
        };
        self.heard.values().all(knows)
    }

    /// The founders, if all others are there, restore the same and hear each other.
    fn founders(&self) -> Option<Founders> {
        let seen = self.seen();
        if seen.len() < self.heard.len() {
            return None;
        }
        let mut founders = seen;
        founders.insert(self.own.clone(), self.stand.nonce);
        let agrees = |(name, heard): (&String, &Heard)| {
            let Heard::Told(told) = heard else { return false };
            match &told.founders {
                Some(theirs) => *theirs == founders,
                None => founders
                    .iter()
                    .all(|(other, nonce)| other == name || told.seen.get(other) == Some(nonce)),
            }
        };
        self.heard.iter().all(agrees).then_some(founders)
    }

    /// The others that are heard and restore the same.
    fn seen(&self) -> BTreeMap<String, Nonce> {
        let same = self.heard.iter().filter_map(|(name, heard)| match heard {
            Heard::Told(told) if told.member == *name && told.terms.agree(&self.terms) => {
                Some((name.clone(), told.nonce))
            }
            Heard::Told(_) | Heard::Silence | Heard::Serves(_) | Heard::Strange(_) => None,
        });
        same.collect()
    }
}

fn presence(meeting: &Meeting, name: &str, heard: &Heard) -> Presence {
    let told = match heard {
        Heard::Silence => return Presence::Missing,
        Heard::Strange(what) => return Presence::Stranger(what.clone()),
        Heard::Serves(cluster) if Some(*cluster) == meeting.cluster => return Presence::Started,
        Heard::Serves(cluster) => return Presence::Serves(*cluster),
        Heard::Told(told) => told,
    };
    if told.member != name {
        return Presence::Stranger(format!("a host that restores member `{}`", plain(&told.member)));
    }
    if !told.terms.agree(&meeting.terms) {
        return Presence::Differs(meeting.terms.differences(&told.terms));
    }
    match (&meeting.stand.founders, &told.founders) {
        (Some(ours), _) if ours.get(name) != Some(&told.nonce) => Presence::Forgot,
        (Some(ours), Some(theirs)) if ours == theirs => Presence::Committed,
        (_, Some(theirs)) if theirs.get(&meeting.own) != Some(&meeting.stand.nonce) => Presence::Elsewhere,
        (Some(_), Some(_)) => Presence::Elsewhere,
        (_, Some(_) | None) => Presence::Present,
    }
}
