//! What a restore is going to do, as a value: it can be printed, kept in the ledger and carried out.
//!
//! Pure. What is on the host was found out by the caller.
//!
//! Who the new member is stands in a plan as soon as that is known: at once for a single member and for a token that the
//! operator gives, else once the members have met, see [`super::rendezvous`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::bump::Bump;
use super::rendezvous::{Founders, Identity, Nonce, Stand, Terms};
use super::source_preview::Preview;
use crate::datadir::{self, InitialCluster, Membership, PeerUrl};
use crate::etcd_settings::Overlay;
use crate::keyspace::{self, EtcdLine, Version};
use crate::layout::Manifest;
use crate::model::{ChainId, ClusterId, Digest, HashKv, Invalid, LineageId, Revision};
use crate::rebuild::Rewrite;

/// Names one restore: when it began and eight random digits, as those of backups.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RestoreId(ChainId);

impl RestoreId {
    /// An id for a restore that begins `now`.
    pub fn new(now: Timestamp, random: u32) -> Self {
        RestoreId(ChainId::new(now, random))
    }

    /// The id as text; safe as one component of a path.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
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
    /// The revision that comes of it: its own, or a later one to which changes behind it lead.
    pub revision: Revision,
    /// Its own, where changes behind it are restored too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Revision>,
    /// What the member reported for that revision, if it was asked.
    pub hash_kv: Option<HashKv>,
}

impl Backup {
    /// A backup as its manifest has it.
    pub fn recorded(manifest: &Manifest) -> Backup {
        Backup {
            name: format!("backup {}", manifest.chain),
            chain: Some(manifest.chain.clone()),
            lineage: Some(manifest.lineage.clone()),
            taken_at: Some(manifest.first_byte_at),
            cluster: Some(manifest.cluster.id),
            etcd_version: Some(manifest.etcd_version.to_string()),
            sha256: manifest.plain.sha256,
            bytes: manifest.plain.bytes,
            revision: manifest.to_revision,
            full: None,
            hash_kv: manifest.hash_kv,
        }
    }

    /// The same with the changes behind it up to that revision.
    #[must_use]
    pub fn followed_to(self, revision: Revision) -> Backup {
        Backup {
            full: Some(self.revision),
            revision,
            ..self
        }
    }

    /// What its database holds by itself.
    pub fn own_revision(&self) -> Revision {
        self.full.unwrap_or(self.revision)
    }

    /// What has no manifest, as it was seen when it was read through.
    pub fn seen(name: String, seen: &Preview) -> Backup {
        Backup {
            name,
            chain: None,
            lineage: None,
            taken_at: None,
            cluster: None,
            etcd_version: None,
            sha256: seen.sha256,
            bytes: seen.bytes,
            revision: seen.revision,
            full: None,
            hash_kv: None,
        }
    }
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
    /// Where it listens for the other members.
    #[serde(default)]
    pub listen_peer_urls: Vec<String>,
    /// The line of etcd that runs here, where that is older than the backup.
    #[serde(with = "line", default)]
    pub etcd_line: Option<EtcdLine>,
    /// The release of the etcd that runs here, if it says so.
    #[serde(default)]
    pub etcd_version: Option<String>,
    /// The size of the database from which on etcd takes no writes; none if it has no quota.
    #[serde(default)]
    pub quota_bytes: Option<u64>,
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
    /// The operator's own token, which was never used before.
    pub token: Option<String>,
    /// What was drawn for this restore on this host.
    pub nonce: Nonce,
    /// Where it is restored.
    pub site: Site,
    /// Whether the backup's pages are kept.
    pub rewrite: Rewrite,
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
    #[error(
        "the token was used before: the data in place is of cluster {cluster}, which these members and this token make"
    )]
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

/// What all hosts of a restore share: it comes from the backup, the configuration and the command line alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterPlan {
    /// What is restored.
    pub backup: Backup,
    /// Whether revisions jump, and why.
    pub bump: Bump,
    /// The members of the new cluster with their sorted peer URLs.
    pub members: BTreeMap<String, Vec<String>>,
}

/// What a restore does on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// Its id.
    pub id: RestoreId,
    /// Who the new member is, once that is known.
    #[serde(flatten)]
    pub identity: Option<Identity>,
    /// Its part in the rendezvous, where the members have to meet.
    #[serde(default)]
    pub stand: Option<Stand>,
    /// The cluster whose data is in place now, where there is one.
    pub in_place: Option<ClusterId>,
    /// Where it is restored.
    pub site: Site,
    /// Whether the backup's pages are kept.
    #[serde(default)]
    pub rewrite: Rewrite,
    /// How long the restored member may take to serve.
    pub health_timeout: Duration,
    /// The cluster flags that are laid over etcd's own settings, where it takes them from its environment.
    #[serde(default)]
    pub overlay: Option<Overlay>,
    /// Files that earlier restores laid over its settings, and that go, in this order.
    #[serde(default)]
    pub stale: Vec<PathBuf>,
    /// Settings as a plan of version 0.1 has them: files as they are to be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PlannedFile>,
}

/// A restore on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What is alike on all hosts.
    #[serde(flatten)]
    pub cluster: ClusterPlan,
    /// What is this host's own.
    #[serde(flatten)]
    pub host: HostPlan,
}

impl ClusterPlan {
    /// The same in words that hosts compare.
    pub fn terms(&self) -> Terms {
        Terms {
            backup: self.backup.name.clone(),
            sha256: self.backup.sha256,
            revision: self.backup.revision,
            bump: self.bump.by,
            members: self.members.clone(),
        }
    }
}

impl Plan {
    /// Plans what is wished for; what is laid over its settings is still to come, see [`Plan::with_settings`].
    pub fn new(wish: Wish) -> Result<Plan, Error> {
        if let Some(token) = wish.token.as_deref().filter(|token| !is_plain(token)) {
            let token = token.chars().take(120).collect();
            return Err(Error::Token { token });
        }
        let own = &wish.site.member;
        wish.members.urls_of(own)?;
        let members = wish.members.iter().map(|(name, urls)| {
            let urls = urls.iter().map(PeerUrl::to_string);
            (name.to_owned(), urls.collect())
        });
        let cluster = ClusterPlan {
            backup: wish.backup,
            bump: wish.bump,
            members: members.collect(),
        };
        let host = HostPlan {
            id: wish.id,
            identity: None,
            stand: None,
            in_place: wish.in_place,
            site: wish.site,
            rewrite: wish.rewrite,
            health_timeout: wish.health_timeout,
            overlay: None,
            stale: Vec::new(),
            files: Vec::new(),
        };
        let mut plan = Plan { cluster, host };
        match wish.token {
            Some(token) => plan.host.identity = Some(Identity::new(&wish.members, &plan.host.site.member, &token)?),
            None => {
                let nonce = wish.nonce;
                plan.host.stand = Some(Stand { nonce, founders: None });
                if plan.is_single() {
                    plan.commit(Founders::from([(plan.host.site.member.clone(), nonce)]))?;
                }
            }
        }
        match plan.cluster_id().filter(|cluster| wish.in_place == Some(*cluster)) {
            Some(cluster) => Err(Error::InPlace { cluster }),
            None => Ok(plan),
        }
    }

    /// Commits to the founders of the new cluster: from here on it is known who this member is.
    ///
    /// Fails where the ids that follow are of no use to etcd, and for a plan that was tampered with.
    pub fn commit(&mut self, founders: Founders) -> Result<(), datadir::Error> {
        let token = self.cluster.terms().token(&founders);
        self.host.identity = Some(Identity::new(&self.initial_members()?, &self.host.site.member, &token)?);
        if let Some(stand) = &mut self.host.stand {
            stand.founders = Some(founders);
        }
        Ok(())
    }

    /// The new cluster's id, once it is known.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.host.identity.as_ref().map(|identity| identity.cluster_id)
    }

    /// Whether the members have to meet before it is known who they are.
    pub fn has_to_meet(&self) -> bool {
        self.host.stand.is_some() && !self.is_single()
    }

    /// The same with what is laid over etcd's settings, and what earlier restores left there.
    #[must_use]
    pub fn with_settings(self, overlay: Option<Overlay>, stale: Vec<PathBuf>) -> Plan {
        let host = HostPlan {
            overlay,
            stale,
            ..self.host
        };
        Plan { host, ..self }
    }

    /// The files that it puts into their places or takes away.
    pub fn files_of_settings(&self) -> impl Iterator<Item = &Path> {
        let planned = self.host.files.iter().map(|file| file.path.as_path());
        let laid = self.host.overlay.iter().flat_map(Overlay::paths);
        planned.chain(laid).chain(self.host.stale.iter().map(PathBuf::as_path))
    }

    /// The releases of etcd that the backup is of and that runs here, if that one is of an older line.
    pub fn older_etcd(&self) -> Option<(&str, &str)> {
        let of = self.cluster.backup.etcd_version.as_deref()?;
        let here = self.host.site.etcd_version.as_deref()?;
        let (read_of, read_here) = (Version::decode(of.as_bytes()), Version::decode(here.as_bytes()));
        let is_older = read_here.ok()?.is_before_line_of(&read_of.ok()?);
        is_older.then_some((of, here))
    }

    /// The members with their ids, and this host's among them, once they are known.
    ///
    /// Fails only for a plan that was tampered with.
    pub fn membership(&self) -> Result<Option<(Membership, keyspace::Member)>, datadir::Error> {
        let Some(identity) = &self.host.identity else {
            return Ok(None);
        };
        let members = self.initial_members()?;
        members.urls_of(&self.host.site.member)?;
        let membership = Membership::new(&members, &identity.token)?;
        let own = membership.member(&self.host.site.member).cloned();
        Ok(own.map(|own| (membership, own)))
    }

    /// The members as `--initial-cluster` takes them.
    ///
    /// Fails only for a plan that was tampered with.
    pub fn initial_cluster(&self) -> Result<String, datadir::Error> {
        Ok(initial_cluster(&self.initial_members()?))
    }

    /// Where this host's member is reached by the others.
    pub fn own_peer_urls(&self) -> &[String] {
        self.cluster
            .members
            .get(&self.host.site.member)
            .map_or(&[], Vec::as_slice)
    }

    /// The other members, by name, with their peer URLs.
    pub fn peers(&self) -> impl Iterator<Item = (&str, &[String])> {
        let others = self
            .cluster
            .members
            .iter()
            .filter(|(name, _)| **name != self.host.site.member);
        others.map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// Whether the new cluster has no other member.
    pub fn is_single(&self) -> bool {
        self.cluster.members.len() == 1
    }

    fn initial_members(&self) -> Result<InitialCluster, datadir::Error> {
        let entries = self
            .cluster
            .members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(|url| Ok((name.clone(), url.parse()?))));
        InitialCluster::new(entries.collect::<Result<Vec<_>, datadir::Error>>()?)
    }
}

/// The members as `--initial-cluster` takes them, in order.
fn initial_cluster(members: &InitialCluster) -> String {
    let entries = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    entries.collect::<Vec<_>>().join(",")
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
                full: None,
                hash_kv: None,
            },
            members: members.parse().unwrap(),
            bump: Bump {
                by: 0,
                why: "none".to_owned(),
            },
            token: None,
            nonce: Nonce([7; 16]),
            site: Site {
                member: "m1".to_owned(),
                unit: "etcd.service".to_owned(),
                owner: (0, 0),
                data_dir: "/var/lib/etcd".into(),
                wal_dir: None,
                client_urls: vec!["http://127.0.0.1:2379".to_owned()],
                listen_peer_urls: Vec::new(),
                etcd_line: None,
                etcd_version: None,
                quota_bytes: None,
            },
            rewrite: Rewrite::Not,
            in_place: Some(ClusterId(0xab)),
            health_timeout: Duration::from_secs(60),
        }
    }

    #[test]
    fn an_etcd_of_an_older_line_than_the_backup_is_named() {
        let on = |version: Option<&str>| {
            let mut plan = Plan::new(wish("m1=http://a:2380")).unwrap();
            plan.host.site.etcd_version = version.map(str::to_owned);
            plan.older_etcd().map(|(of, here)| format!("{of} on {here}"))
        };
        assert_eq!(on(Some("3.5.34")).as_deref(), Some("3.6.15 on 3.5.34"));
        for version in [None, Some("3.6.0"), Some("3.7.2"), Some("nonsense")] {
            assert_eq!(on(version), None, "{version:?}");
        }
    }

    #[test]
    fn a_plan_reads_back_as_it_was_written() {
        let mut plan = Plan::new(wish("m2=http://b:2380,m1=http://a:2380")).unwrap();
        for _ in 0..2 {
            let json = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
            assert_eq!(plan.initial_cluster().unwrap(), "m1=http://a:2380,m2=http://b:2380");
            assert_eq!(plan.peers().map(|(name, _)| name).collect::<Vec<_>>(), ["m2"]);
            plan.commit(founders(1)).unwrap();
        }
        let (membership, own) = plan.membership().unwrap().unwrap();
        let identity = plan.host.identity.clone().unwrap();
        assert_eq!(
            (membership.cluster_id(), own.id),
            (identity.cluster_id, identity.member_id)
        );
    }

    fn founders(nonce: u8) -> Founders {
        Founders::from([("m1".to_owned(), Nonce([nonce; 16])), ("m2".to_owned(), Nonce([2; 16]))])
    }

    #[test]
    fn hosts_with_the_same_founders_come_to_one_cluster_whatever_is_in_place_on_each() {
        let mut first = Plan::new(wish("m1=http://a:2380,m2=http://b:2380")).unwrap();
        assert!(first.has_to_meet() && first.host.identity.is_none());
        let mut second = wish("m2=http://b:2380,m1=http://a:2380");
        second.site.member = "m2".to_owned();
        second.site.data_dir = "/elsewhere".into();
        second.in_place = None;
        let mut second = Plan::new(second).unwrap();
        first.commit(founders(1)).unwrap();
        second.commit(founders(1)).unwrap();
        let (one, other) = (first.host.identity.unwrap(), second.host.identity.clone().unwrap());
        assert_eq!((&one.token, one.cluster_id), (&other.token, other.cluster_id));
        assert_ne!(one.member_id, other.member_id);
        second.commit(founders(3)).unwrap();
        assert_ne!(one.cluster_id, second.cluster_id().unwrap());
    }

    #[test]
    fn a_single_member_is_another_one_each_time() {
        let once = Plan::new(wish("m1=http://a:2380")).unwrap();
        let mut again = wish("m1=http://a:2380");
        again.in_place = once.cluster_id();
        again.nonce = Nonce([8; 16]);
        let again = Plan::new(again).unwrap();
        assert!(!again.has_to_meet());
        assert_ne!(again.cluster_id(), once.cluster_id());
    }

    #[test]
    fn a_token_of_the_operators_is_taken_as_it_is_and_refused_where_it_was_used() {
        let mut given = wish("m1=http://a:2380,m2=http://b:2380");
        given.token = Some("again".to_owned());
        let planned = Plan::new(given.clone()).unwrap();
        assert!(!planned.has_to_meet());
        assert_eq!(planned.host.identity.as_ref().unwrap().token, "again");
        given.in_place = planned.cluster_id();
        let cluster = planned.cluster_id().unwrap();
        assert_eq!(Plan::new(given).unwrap_err(), Error::InPlace { cluster });
    }

    #[test]
    fn a_plan_of_an_earlier_version_knows_who_it_is() {
        let planned = Plan::new(wish("m1=http://a:2380")).unwrap();
        let mut json = serde_json::to_value(&planned).unwrap();
        let fields = json.as_object_mut().unwrap();
        fields.remove("stand");
        fields["site"].as_object_mut().unwrap().remove("listen_peer_urls");
        let read: Plan = serde_json::from_value(json).unwrap();
        assert_eq!(read.host.identity, planned.host.identity);
        assert!(!read.has_to_meet());
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
