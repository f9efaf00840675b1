//! Who of a cluster is well, and whether a restore is what its members need.
//!
//! Pure. While a quorum lives, a member that lost its data gets everything from the others: a restore would make a second
//! cluster of an older state. Without one, no member serves, and what they hold is brought back by a restore alone.
//!
//! Invariant: where it cannot be seen whether a quorum lives, it is taken to live.

use crate::etcd::PeerMember;
use crate::model::ClusterId;

/// What was heard of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It answered a read that needs a quorum.
    Serves,
    /// It runs; whether it serves could not be asked, as without a login.
    Runs,
    /// It runs, and does not serve; in words why.
    Stuck(String),
    /// Nothing.
    Silent,
}

impl Heard {
    fn runs(&self) -> bool {
        match self {
            Heard::Serves | Heard::Runs | Heard::Stuck(_) => true,
            Heard::Silent => false,
        }
    }

    fn may_serve(&self) -> bool {
        match self {
            Heard::Serves | Heard::Runs => true,
            Heard::Stuck(_) | Heard::Silent => false,
        }
    }
}

/// A cluster of which at least one member runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub cluster: ClusterId,
    /// Its members, as one of them lists them, and what was heard of each.
    pub members: Vec<(PeerMember, Heard)>,
}

/// How a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It serves, or nothing shows that it does not.
    Lives,
    /// Members run and none serves.
    Stuck,
}

impl Found {
    /// How it is.
    pub fn verdict(&self) -> Verdict {
        let voters = || self.members.iter().filter(|(member, _)| !member.is_learner);
        let quorum = voters().count() / 2 + 1;
        let has_served = self.members.iter().any(|(_, heard)| *heard == Heard::Serves);
        match has_served || voters().filter(|(_, heard)| heard.may_serve()).count() >= quorum {
            true => Verdict::Lives,
            false => Verdict::Stuck,
        }
    }

    /// The members that run.
    pub fn running(&self) -> impl Iterator<Item = &PeerMember> {
        self.of(Heard::runs)
    }

    /// The members that do not answer.
    pub fn silent(&self) -> impl Iterator<Item = &PeerMember> {
        self.of(|heard| !heard.runs())
    }

    /// The members that serve, or may.
    pub fn well(&self) -> impl Iterator<Item = &PeerMember> {
        self.of(Heard::may_serve)
    }

    /// The member of a host: by its name, or by one of the addresses that the others reach it at.
    pub fn member_of(&self, name: &str, peer_urls: &[String]) -> Option<&(PeerMember, Heard)> {
        let plain = |url: &str| url.trim_end_matches('/').to_owned();
        let known: Vec<String> = peer_urls.iter().map(|url| plain(url)).collect();
        let by_address = |(member, _): &&(PeerMember, Heard)| {
            let mut urls = member.peer_urls.iter();
            urls.any(|url| known.contains(&plain(url)))
        };
        let by_name = |(member, _): &&(PeerMember, Heard)| member.name == name;
        let mut members = self.members.iter();
        members.find(by_address).or_else(|| self.members.iter().find(by_name))
    }

    fn of(&self, is_meant: impl Fn(&Heard) -> bool) -> impl Iterator<Item = &PeerMember> {
        let meant = self.members.iter().filter(move |(_, heard)| is_meant(heard));
        meant.map(|(member, _)| member)
    }
}

/// How a member is called: by its name, or by its id as long as it has none.
pub fn called(member: &PeerMember) -> String {
    match member.name.as_str() {
        "" => member.id.to_string(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::MemberId;

    /// A cluster of members `m1`, `m2`, … of which so much was heard.
    pub(crate) fn found(heard: &[Heard]) -> Found {
        let members = (1..).zip(heard).map(|(number, heard)| {
            let member = PeerMember {
                id: MemberId(number),
                name: format!("m{number}"),
                peer_urls: vec![format!("http://10.0.0.{number}:2380")],
                client_urls: vec![format!("http://10.0.0.{number}:2379")],
                is_learner: false,
            };
            (member, heard.clone())
        });
        Found {
            cluster: ClusterId(0xab),
            members: members.collect(),
        }
    }

    pub(crate) fn stuck() -> Heard {
        Heard::Stuck("no leader".to_owned())
    }

    #[test]
    fn a_cluster_lives_while_one_serves_or_a_majority_may() {
        use Heard::{Runs, Serves, Silent};
        let verdict = |heard: &[Heard]| found(heard).verdict();
        for lives in [
            &[Silent, Serves, Serves][..],
            &[Silent, Serves, Silent],
            &[Silent, Runs, Runs],
            &[Serves, Silent],
            &[stuck(), Runs, Runs],
        ] {
            assert_eq!(verdict(lives), Verdict::Lives, "{lives:?}");
        }
        for stuck in [
            &[Silent, Silent, stuck()][..],
            &[Silent, Silent, Runs],
            &[stuck(), stuck(), stuck()],
            &[stuck(), Runs, Silent],
            &[Silent, Runs],
        ] {
            assert_eq!(verdict(stuck), Verdict::Stuck, "{stuck:?}");
        }
    }

    #[test]
    fn a_learner_has_no_vote() {
        let mut cluster = found(&[Heard::Silent, Heard::Runs, Heard::Runs]);
        cluster.members[2].0.is_learner = true;
        assert_eq!(cluster.verdict(), Verdict::Stuck, "one of two voters");
    }

    #[test]
    fn the_member_of_a_host_is_found_by_its_address_before_its_name() {
        let mut cluster = found(&[Heard::Silent, Heard::Serves]);
        let id = |name: &str, url: &str| {
            let found = cluster.member_of(name, &[url.to_owned()]);
            found.map(|(member, _)| member.id.0)
        };
        assert_eq!(id("m2", "http://10.0.0.1:2380/"), Some(1));
        assert_eq!(id("m2", "http://10.0.0.9:2380"), Some(2));
        assert_eq!(id("m9", "http://10.0.0.9:2380"), None);
        cluster.members[0].0.name = String::new();
        assert_eq!(
            called(&cluster.members[0].0),
            "0000000000000001".trim_start_matches('0').to_owned()
        );
    }
}
