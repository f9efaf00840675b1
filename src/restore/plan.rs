//! What a restore is going to do, as a value: it can be printed, kept in the ledger and carried out.
//!
//! Pure. What is on the host was found out by the caller.
//!
//! Invariant: token and ids follow from backup, members and bump alone, so that every host comes to the same ones.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bump::Bump;
use super::token::{Ingredients, initial_cluster};
use crate::datadir::{self, InitialCluster, Membership, PeerUrl};
use crate::keyspace::{self, EtcdLine, Version};
use crate::model::{ChainId, ClusterId, Digest, HashKv, Invalid, LineageId, MemberId, Revision};

/// Names one restore: when it began and eight random digits, as those of backups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RestoreId(ChainId);

impl RestoreId {
    /// An id for a restore that begins `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        RestoreId(ChainId::new(now, random))
    }
}

impl fmt::Display for RestoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RestoreId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let parsed = text.parse().map(RestoreId);
        parsed.map_err(|_| Invalid::new(text, "the id of a restore (such as 20261120T101530Z-9f3c4a1b)"))
    }
}

/// What is restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// How it is called in messages.
    pub name: String,
    /// Its id, if it is one of a store.
    pub chain: Option<ChainId>,
    /// The history it belongs to, if it is one of a store.
    pub lineage: Option<LineageId>,
    /// When it was taken, where that is known.
    pub taken_at: Option<Timestamp>,
    /// The cluster it is of, where that is known.
    pub cluster: Option<ClusterId>,
    /// The release of etcd that it was taken from, where that is known.
    #[serde(default)]
    pub etcd_version: Option<String>,
    /// Digest of all its plain bytes.
    pub sha256: Digest,
    /// Their number.
    pub bytes: u64,
    /// The revision it holds.
    pub revision: Revision,
    /// What the member reported for that revision, if it was asked.
    pub hash_kv: Option<HashKv>,
}

/// The member on this host, and where its things are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The member's name.
    pub member: String,
    /// The unit that runs it.
    pub unit: String,
    /// User and group who own its data.
    pub owner: (u32, u32),
    /// The data directory.
    pub data_dir: PathBuf,
    /// The directory of its log, if that is not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Where it serves clients.
    pub client_urls: Vec<String>,
    /// The line of etcd that runs here, where that is older than the backup.
    #[serde(with = "line", default)]
    pub etcd_line: Option<EtcdLine>,
    /// The release of the etcd that runs here, if it says so.
    #[serde(default)]
    pub etcd_version: Option<String>,
}

impl Site {
    /// The directories whose content is exchanged.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        [self.data_dir.as_path()].into_iter().chain(self.wal_dir.as_deref())
    }
}

/// A line of etcd as text.
mod line {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::keyspace::EtcdLine;

    pub(super) fn serialize<S: Serializer>(line: &Option<EtcdLine>, serializer: S) -> Result<S::Ok, S::Error> {
        line.map(|line| line.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<EtcdLine>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom))
            .transpose()
    }
}

/// A file that is put into its place, or replaced by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Where.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
    /// Who may read it.
    pub mode: u32,
    /// User and group who own it.
    pub owner: (u32, u32),
}

/// What a plan is made from.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The id of the restore.
    pub id: RestoreId,
    /// What is restored.
    pub backup: Backup,
    /// The members of the new cluster.
    pub members: InitialCluster,
    /// Whether revisions jump.
    pub bump: Bump,
    /// The operator's own beginning of the token.
    pub token: Option<String>,
    /// Where it is restored.
    pub site: Site,
    /// The cluster whose data is in place now, where there is one.
    pub in_place: Option<ClusterId>,
    /// How long the restored member may take to serve.
    pub health_timeout: Duration,
}

/// Why nothing can be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Members that cannot make a cluster.
    #[error(transparent)]
    Members(#[from] datadir::Error),
    /// The data in place is that of the new cluster.
    #[error("cluster {cluster} is in place already: this backup was restored here with the same members before")]
    InPlace {
        /// The id that both have.
        cluster: ClusterId,
    },
    /// A token that etcd's files cannot hold as it is.
    #[error("the token `{token}` may only have letters, digits and `.`, `_`, `-`, and at most 64 of them")]
    Token {
        /// The text.
        token: String,
    },
}

/// A restore on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id.
    pub id: RestoreId,
    /// What is restored.
    pub backup: Backup,
    /// Whether revisions jump, and why.
    pub bump: Bump,
    /// The members of the new cluster with their sorted peer URLs.
    pub members: BTreeMap<String, Vec<String>>,
    /// The new cluster's token.
    pub token: String,
    /// The new cluster's id.
    pub cluster_id: ClusterId,
    /// This member's id in it.
    pub member_id: MemberId,
    /// The cluster whose data is in place now, where there is one.
    pub in_place: Option<ClusterId>,
    /// Where it is restored.
    pub site: Site,
    /// How long the restored member may take to serve.
    pub health_timeout: Duration,
    /// The settings that etcd is started with from then on.
    pub files: Vec<PlannedFile>,
}

impl Plan {
    /// Plans what is wished for; the files of its settings are still to come, see [`Plan::with_files`].
    pub fn new(wish: Wish) -> Result<Plan, Error> {
        if let Some(token) = wish.token.as_deref().filter(|token| !is_plain(token)) {
            let token = token.chars().take(120).collect();
            return Err(Error::Token { token });
        }
        let ingredients = Ingredients {
            sha256: wish.backup.sha256,
            revision: wish.backup.revision,
            bump: wish.bump.by,
            members: &wish.members,
            replaces: wish.backup.cluster,
        };
        let token = ingredients.token(wish.token.as_deref());
        wish.members.urls_of(&wish.site.member)?;
        let membership = Membership::new(&wish.members, &token)?;
        let cluster_id = membership.cluster_id();
        if wish.in_place == Some(cluster_id) {
            return Err(Error::InPlace { cluster: cluster_id });
        }
        let member = membership.member(&wish.site.member).expect("its URLs were found");
        let members = wish.members.iter().map(|(name, urls)| {
            let urls = urls.iter().map(PeerUrl::to_string);
            (name.to_owned(), urls.collect())
        });
        Ok(Plan {
            id: wish.id,
            backup: wish.backup,
            bump: wish.bump,
            members: members.collect(),
            token,
            cluster_id,
            member_id: member.id,
            in_place: wish.in_place,
            site: wish.site,
            health_timeout: wish.health_timeout,
            files: Vec::new(),
        })
    }

    /// The same with the files that give etcd its new settings.
    #[must_use]
    pub fn with_files(self, files: Vec<PlannedFile>) -> Plan {
        Plan { files, ..self }
    }

    /// The releases of etcd that the backup is of and that runs here, if that one is of an older line.
    pub fn older_etcd(&self) -> Option<(&str, &str)> {
        let of = self.backup.etcd_version.as_deref()?;
        let here = self.site.etcd_version.as_deref()?;
        let (read_of, read_here) = (Version::decode(of.as_bytes()), Version::decode(here.as_bytes()));
        let is_older = read_here.ok()?.is_before_line_of(&read_of.ok()?);
        is_older.then_some((of, here))
    }

    /// The members with their ids.
    ///
    /// Fails only for a plan that was tampered with.
    pub fn membership(&self) -> Result<Membership, datadir::Error> {
        Membership::new(&self.initial_members()?, &self.token)
    }

    /// The members as `--initial-cluster` takes them.
    ///
    /// Fails only for a plan that was tampered with.
    pub fn initial_cluster(&self) -> Result<String, datadir::Error> {
        Ok(initial_cluster(&self.initial_members()?))
    }

    /// The member of this host, as the new cluster knows it.
    ///
    /// Fails only for a plan that was tampered with.
    pub fn own_member(&self) -> Result<keyspace::Member, datadir::Error> {
        let membership = self.membership()?;
        let member = membership.member(&self.site.member).cloned();
        member.ok_or_else(|| datadir::Error::UnknownMember {
            name: self.site.member.clone(),
            known: self.members.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// Where this host's member is reached by the others.
    pub fn own_peer_urls(&self) -> &[String] {
        self.members.get(&self.site.member).map_or(&[], Vec::as_slice)
    }

    /// The other members, by name, with their peer URLs.
    pub fn peers(&self) -> impl Iterator<Item = (&str, &[String])> {
        let others = self.members.iter().filter(|(name, _)| **name != self.site.member);
        others.map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// Whom to ask before anything is done, by name with one peer URL each: the other members of the new cluster, and those
    /// that are `known` otherwise, such as members of the old cluster that the new one is without. Whatever has this host's
    /// name or one of the URLs that are `here` is this host.
    pub fn to_ask<'a>(
        &'a self,
        known: impl IntoIterator<Item = (&'a str, &'a str)>,
        here: &[String],
    ) -> Vec<(String, String)> {
        let planned = self
            .peers()
            .flat_map(|(name, urls)| urls.iter().map(move |url| (name, url.as_str())));
        let mut asked: Vec<(String, String)> = Vec::new();
        for (name, url) in planned.chain(known) {
            let url = url.trim_end_matches('/');
            let is = |other: &String| other.trim_end_matches('/') == url;
            let is_here = name == self.site.member || self.own_peer_urls().iter().chain(here).any(is);
            if !is_here && !asked.iter().any(|(_, known)| is(known)) {
                asked.push((name.to_owned(), url.to_owned()));
            }
        }
        asked
    }

    /// Whether the new cluster has no other member.
    pub fn is_single(&self) -> bool {
        self.members.len() == 1
    }

    fn initial_members(&self) -> Result<InitialCluster, datadir::Error> {
        let entries = self
            .members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(|url| Ok((name.clone(), url.parse()?))));
        InitialCluster::new(entries.collect::<Result<Vec<_>, datadir::Error>>()?)
    }
}

fn is_plain(token: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !token.is_empty() && token.len() <= 64 && token.bytes().all(plain)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::restore) fn wish(members: &str) -> Wish {
        Wish {
            id: "20261120T101530Z-9f3c4a1b".parse().unwrap(),
            backup: Backup {
                name: "backup 20261120T091530Z-00000001".to_owned(),
                chain: "20261120T091530Z-00000001".parse().ok(),
                lineage: None,
                taken_at: "2026-11-20T09:15:30Z".parse().ok(),
                cluster: Some(ClusterId(0xab)),
                etcd_version: Some("3.6.15".to_owned()),
                sha256: Digest([7; 32]),
                bytes: 4096,
                revision: Revision::new(42).unwrap(),
                hash_kv: None,
            },
            members: members.parse().unwrap(),
            bump: Bump {
                by: 0,
                why: "none".to_owned(),
            },
            token: None,
            site: Site {
                member: "m1".to_owned(),
                unit: "etcd.service".to_owned(),
                owner: (0, 0),
                data_dir: "/var/lib/etcd".into(),
                wal_dir: None,
                client_urls: vec!["http://127.0.0.1:2379".to_owned()],
                etcd_line: None,
                etcd_version: None,
            },
            in_place: Some(ClusterId(0xab)),
            health_timeout: Duration::from_secs(60),
        }
    }

    #[test]
    fn an_etcd_of_an_older_line_than_the_backup_is_named() {
        let on = |version: Option<&str>| {
            let mut plan = Plan::new(wish("m1=http://a:2380")).unwrap();
            plan.site.etcd_version = version.map(str::to_owned);
            plan.older_etcd().map(|(of, here)| format!("{of} on {here}"))
        };
        assert_eq!(on(Some("3.5.34")).as_deref(), Some("3.6.15 on 3.5.34"));
        for version in [None, Some("3.6.0"), Some("3.7.2"), Some("nonsense")] {
            assert_eq!(on(version), None, "{version:?}");
        }
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let plan = Plan::new(wish("m2=http://b:2380,m1=http://a:2380")).unwrap();
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
        assert_eq!(plan.initial_cluster().unwrap(), "m1=http://a:2380,m2=http://b:2380");
        assert_eq!(plan.own_member().unwrap().id, plan.member_id);
        assert_eq!(plan.membership().unwrap().cluster_id(), plan.cluster_id);
        assert_eq!(plan.peers().map(|(name, _)| name).collect::<Vec<_>>(), ["m2"]);
    }

    #[test]
    fn members_of_the_old_cluster_are_asked_too_and_this_host_is_not_under_any_name() {
        let plan = Plan::new(wish("m1=http://a:2380,m2=http://b:2380")).unwrap();
        let known = [
            ("m1", "http://a.old:2380"),
            ("default", "http://localhost:2380"),
            ("m1-by-its-host", "http://a:2380/"),
            ("m2", "http://b:2380/"),
            ("m2", "http://b.old:2380"),
            ("m3", "http://c:2380"),
            ("third", "http://c:2380"),
        ];
        let here = ["http://localhost:2380".to_owned()];
        let asked = plan.to_ask(known, &here);
        let asked: Vec<(&str, &str)> = asked.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
        let expected = [
            ("m2", "http://b:2380"),
            ("m2", "http://b.old:2380"),
            ("m3", "http://c:2380"),
        ];
        assert_eq!(asked, expected);
    }

    #[test]
    fn hosts_come_to_one_cluster_whatever_is_in_place_on_each() {
        let first = Plan::new(wish("m1=http://a:2380,m2=http://b:2380")).unwrap();
        let mut second = wish("m2=http://b:2380,m1=http://a:2380");
        second.site.member = "m2".to_owned();
        second.site.data_dir = "/elsewhere".into();
        second.in_place = None;
        let second = Plan::new(second).unwrap();
        assert_eq!((&first.token, first.cluster_id), (&second.token, second.cluster_id));
        assert_ne!(first.member_id, second.member_id);
    }

    #[test]
    fn what_is_in_place_already_is_refused_and_a_token_of_ones_own_gets_around_it() {
        let planned = Plan::new(wish("m1=http://a:2380")).unwrap();
        let mut again = wish("m1=http://a:2380");
        again.in_place = Some(planned.cluster_id);
        assert_eq!(
            Plan::new(again.clone()).unwrap_err(),
            Error::InPlace {
                cluster: planned.cluster_id
            }
        );
        again.token = Some("again".to_owned());
        let again = Plan::new(again).unwrap();
        assert!(again.token.starts_with("again-"), "{}", again.token);
        assert_ne!(again.cluster_id, planned.cluster_id);
    }

    #[test]
    fn strangers_and_odd_tokens_are_refused() {
        let mut stranger = wish("m1=http://a:2380");
        stranger.site.member = "m9".to_owned();
        assert!(matches!(
            Plan::new(stranger),
            Err(Error::Members(datadir::Error::UnknownMember { .. }))
        ));
        for token in ["", "a b", "a\"b", &"x".repeat(65)] {
            let mut odd = wish("m1=http://a:2380");
            odd.token = Some(token.to_owned());
            assert!(matches!(Plan::new(odd), Err(Error::Token { .. })), "{token}");
        }
    }
}
