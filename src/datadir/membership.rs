//! Who is in the restored cluster, and under which ids.
//!
//! A member's id is the first eight bytes, big-endian, of SHA-1 over its sorted peer URLs and the cluster's token,
//! nothing in between; the cluster's id is the same over the members' ids. So the same URLs and the same token give
//! the ids of the old cluster again: a token of its own keeps a restored cluster apart from it.
//!
//! Invariant: members are in ascending order of their ids, at least one, no id twice, none 0.
//!
//! Source of the rules: etcd `server/etcdserver/api/membership/{member,cluster}.go` and
//! `server/config/config.go` of 3.5.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use sha1::{Digest, Sha1};

use super::PeerUrl;
use crate::keyspace::Member;
use crate::model::{ClusterId, MemberId};

/// Why an initial cluster cannot be restored to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Text between commas that is not `name=url`.
    #[error("`{entry}` in the initial cluster is not of the form name=url")]
    Entry {
        /// The text.
        entry: String,
    },
    /// A URL that etcd refuses, or that it would rewrite.
    #[error("peer URL `{url}`: {reason}")]
    PeerUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No member at all.
    #[error("the initial cluster is empty")]
    Empty,
    /// The member to be restored is not part of the cluster.
    #[error("member `{name}` is not in the initial cluster, which has {known}")]
    UnknownMember {
        /// The member's name.
        name: String,
        /// The names that are there.
        known: String,
    },
    /// One URL for two members, or twice for one.
    #[error("the initial cluster has peer URL {url} twice")]
    DuplicateUrl {
        /// The URL.
        url: PeerUrl,
    },
    /// The URLs the member advertises are not those the cluster expects it at.
    #[error("member `{name}` advertises {advertised}, but the initial cluster has it at {listed}")]
    AdvertisedElsewhere {
        /// The member's name.
        name: String,
        /// What it advertises.
        advertised: String,
        /// What the initial cluster says.
        listed: String,
    },
    /// Ids that etcd cannot work with; another token gives others.
    #[error("these members and this token give member id {id} {problem}; another token gives other ids")]
    UnusableId {
        /// The id.
        id: MemberId,
        /// Why it is of no use.
        problem: &'static str,
    },
}

/// The members of a cluster by name, as `--initial-cluster` gives them: `m1=url,m1=url2,m2=url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<PeerUrl>>,
}

impl InitialCluster {
    /// A cluster from names and their URLs; several entries of one name add up.
    ///
    /// Fails when there is none, or when a URL is there twice.
    pub fn new(entries: impl IntoIterator<Item = (String, PeerUrl)>) -> Result<Self, Error> {
        let mut members = BTreeMap::<String, Vec<PeerUrl>>::new();
        for (name, url) in entries {
            if members.values().flatten().any(|known| *known == url) {
                return Err(Error::DuplicateUrl { url });
            }
            members.entry(name).or_default().push(url);
        }
        if members.is_empty() {
            return Err(Error::Empty);
        }
        members.values_mut().for_each(|urls| urls.sort_unstable());
        Ok(InitialCluster { members })
    }

    /// The sorted peer URLs of member `name`.
    ///
    /// Fails when it is not in the cluster.
    pub fn urls_of(&self, name: &str) -> Result<&[PeerUrl], Error> {
        self.members
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| Error::UnknownMember {
                name: name.to_owned(),
                known: self
                    .members
                    .keys()
                    .map(|name| format!("`{name}`"))
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// The same without these members.
    ///
    /// Fails when one of them is not in the cluster, or none is left.
    pub fn without(&self, names: &[String]) -> Result<Self, Error> {
        names.iter().try_for_each(|name| self.urls_of(name).map(drop))?;
        let left = self.iter().filter(|(name, _)| !names.iter().any(|gone| gone == name));
        InitialCluster::new(left.flat_map(|(name, urls)| urls.iter().map(move |url| (name.to_owned(), url.clone()))))
    }

    /// Every member's name and sorted peer URLs, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[PeerUrl])> {
        self.members.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// Checks that member `name` is in the cluster, at the URLs that it advertises.
    ///
    /// Only if they differ as text is `resolve` asked for the addresses of host names, never for `localhost`; `None`
    /// from it is a host that does not resolve.
    pub fn check_advertised(
        &self,
        name: &str,
        advertised: &[PeerUrl],
        mut resolve: impl FnMut(&str, u16) -> Option<SocketAddr>,
    ) -> Result<(), Error> {
        let listed = self.urls_of(name)?;
        let mut advertised = advertised.to_vec();
        advertised.sort_unstable();
        let mut addresses = |urls: &[PeerUrl]| {
            let mut addresses = urls
                .iter()
                .map(|url| resolved(url, &mut resolve))
                .collect::<Option<Vec<_>>>()?;
            addresses.sort_unstable();
            Some(addresses)
        };
        let equal = advertised == listed
            || (advertised.len() == listed.len()
                && addresses(&advertised).is_some_and(|own| addresses(listed).is_some_and(|listed| own == listed)));
        if equal {
            return Ok(());
        }
        let joined = |urls: &[PeerUrl]| urls.iter().map(PeerUrl::as_str).collect::<Vec<_>>().join(",");
        Err(Error::AdvertisedElsewhere {
            name: name.to_owned(),
            advertised: joined(&advertised),
            listed: joined(listed),
        })
    }
}

impl FromStr for InitialCluster {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let entry = |entry: &str| -> Result<(String, PeerUrl), Error> {
            let named = entry.split_once('=').filter(|(name, _)| !name.is_empty());
            let (name, url) = named.ok_or_else(|| Error::Entry {
                entry: entry.chars().take(120).collect(),
            })?;
            Ok((name.to_owned(), url.parse()?))
        };
        let entries = text.split(',').filter(|entry| !entry.is_empty());
        InitialCluster::new(entries.map(entry).collect::<Result<Vec<_>, _>>()?)
    }
}

/// The URL with its host name replaced by an address.
fn resolved(url: &PeerUrl, mut resolve: impl FnMut(&str, u16) -> Option<SocketAddr>) -> Option<String> {
    match url.host_and_port() {
        Some((scheme, host, port)) if host != "localhost" => Some(format!("{scheme}://{}", resolve(host, port)?)),
        Some(_) | None => Some(url.to_string()),
    }
}

/// The members of a new cluster with their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    cluster_id: ClusterId,
    members: Vec<Member>,
}

impl Membership {
    /// Computes the ids that `cluster` has under `token`.
    ///
    /// Fails when two ids are equal or one is 0; with SHA-1 that takes members whose URLs run together, such as
    /// `http://a:1` + `2`.
    pub fn new(cluster: &InitialCluster, token: &str) -> Result<Self, Error> {
        let member = |(name, urls): (&str, &[PeerUrl])| {
            let id = MemberId(hash(
                urls.iter().map(|url| url.as_str().as_bytes()).chain([token.as_bytes()]),
            ));
            Member::voter(id, name, urls.iter().map(PeerUrl::to_string).collect())
        };
        let mut members: Vec<_> = cluster.iter().map(member).collect();
        members.sort_unstable_by_key(|member| member.id);
        let equal = members.iter().zip(members.iter().skip(1)).find(|(a, b)| a.id == b.id);
        if let Some((member, _)) = equal {
            return Err(Error::UnusableId {
                id: member.id,
                problem: "twice",
            });
        }
        if let Some(member) = members.first().filter(|member| member.id.0 == 0) {
            return Err(Error::UnusableId {
                id: member.id,
                problem: "which means nobody",
            });
        }
        let ids: Vec<_> = members.iter().map(|member| member.id.0.to_be_bytes()).collect();
        let cluster_id = ClusterId(hash(ids.iter().map(<[u8; 8]>::as_slice)));
        Ok(Membership { cluster_id, members })
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    /// The members, by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// The first eight bytes of SHA-1 over `parts`.
fn hash<'a>(parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    let mut sha1 = Sha1::new();
    parts.for_each(|part| sha1.update(part));
    let digest: [u8; 20] = sha1.finalize().into();
    digest.iter().take(8).fold(0, |id, &byte| id << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "m1=http://127.0.0.1:23801,m2=http://127.0.0.1:23802,m3=http://127.0.0.1:23803";

    fn membership(cluster: &str, token: &str) -> Membership {
        Membership::new(&cluster.parse().unwrap(), token).unwrap()
    }

    #[test]
    fn ids_are_those_of_real_clusters() {
        let one = membership("default=http://localhost:2380", "etcd-cluster");
        assert_eq!(one.members()[0].id.to_string(), "8e9e05c52164694d");
        assert_eq!(one.cluster_id().to_string(), "cdf818194e3a8c32");

        let three = membership(THREE, "tok-B");
        let ids: Vec<_> = three
            .members()
            .iter()
            .map(|m| (m.name.as_str(), m.id.to_string()))
            .collect();
        let expected = [
            ("m2", "afc1e72027c1b84"),
            ("m1", "4551ecce688a2ba6"),
            ("m3", "b44329a24a97b683"),
        ];
        assert_eq!(ids, expected.map(|(name, id)| (name, id.to_owned())));
        assert_eq!(three.cluster_id().to_string(), "3b38a3661e0fd0db");

        for order in [
            "a=http://10.0.0.1:2380,a=http://10.0.0.2:2380",
            "a=http://10.0.0.2:2380,a=http://10.0.0.1:2380",
        ] {
            assert_eq!(
                membership(order, "tkn").member("a").unwrap().id.to_string(),
                "d7a32b2f3ce002bc"
            );
        }
    }

    #[test]
    fn a_cluster_that_etcdutl_refuses_is_refused() {
        let cluster = |text: &str| text.parse::<InitialCluster>();
        for text in ["m1", "=http://a:1", "m1=http://a:1,m2"] {
            assert!(matches!(cluster(text), Err(Error::Entry { .. })), "{text}");
        }
        for text in ["", ",", ",,"] {
            assert_eq!(cluster(text), Err(Error::Empty), "{text}");
        }
        for text in ["m1=", "m1=ftp://a:1", "m1=http://a:1/", "m1=http://a", "m1=a:1"] {
            assert!(matches!(cluster(text), Err(Error::PeerUrl { .. })), "{text}");
        }
        for text in [
            "m1=http://a:1,m2=http://a:1",
            "m1=http://a:1,m1=http://a:1",
            "m1=http://a:1,m2=HTTP://a:1",
        ] {
            assert!(matches!(cluster(text), Err(Error::DuplicateUrl { .. })), "{text}");
        }
        let unknown = cluster(THREE).unwrap().urls_of("m4").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "member `m4` is not in the initial cluster, which has `m1`, `m2`, `m3`"
        );
    }

    #[test]
    fn ids_that_run_together_are_refused() {
        let cluster = "a=unix://x,a=unix://y,b=unix://xunix://y".parse().unwrap();
        assert!(matches!(
            Membership::new(&cluster, "t"),
            Err(Error::UnusableId { problem: "twice", .. })
        ));
    }

    #[test]
    fn advertised_urls_are_compared_as_text_and_then_resolved() {
        let cluster: InitialCluster = "m1=http://a:1,m1=http://b:2,m2=http://localhost:3".parse().unwrap();
        let urls = |text: &str| {
            text.split(',')
                .map(|url| url.parse().unwrap())
                .collect::<Vec<PeerUrl>>()
        };
        let nobody = |host: &str, _| -> Option<SocketAddr> { panic!("{host} was to be resolved") };
        let hosts = |host: &str, port: u16| match host {
            "a" | "10.0.0.1" => Some(SocketAddr::from(([10, 0, 0, 1], port))),
            "b" | "bee" => Some(SocketAddr::from(([10, 0, 0, 2], port))),
            _ => None,
        };
        assert_eq!(
            cluster.check_advertised("m1", &urls("http://b:2,http://a:1"), nobody),
            Ok(())
        );
        assert_eq!(
            cluster.check_advertised("m1", &urls("http://bee:2,http://10.0.0.1:1"), hosts),
            Ok(())
        );
        for elsewhere in [
            "http://a:1",
            "http://a:1,http://b:3",
            "https://a:1,http://bee:2",
            "http://a:1,http://gone:2",
        ] {
            let refused = cluster.check_advertised("m1", &urls(elsewhere), hosts);
            assert!(matches!(refused, Err(Error::AdvertisedElsewhere { .. })), "{elsewhere}");
        }
        let local = cluster.check_advertised("m2", &urls("http://127.0.0.1:3"), |_, port| {
            Some(SocketAddr::from(([127, 0, 0, 1], port)))
        });
        assert!(matches!(local, Err(Error::AdvertisedElsewhere { .. })));
        let unknown = cluster.check_advertised("m9", &urls("http://a:1"), nobody);
        assert!(matches!(unknown, Err(Error::UnknownMember { .. })));
    }
}
