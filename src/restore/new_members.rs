//! Who is in the new cluster, where no list of members was given.

use crate::datadir::{self, InitialCluster, PeerUrl};

/// Why that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Members are configured without the addresses at which the others reach them.
    #[error("`peer_urls` is missing in [members] for {}", .names.join(", "))]
    WithoutUrls {
        /// Their names.
        names: Vec<String>,
    },
    /// Members that cannot make a cluster.
    #[error(transparent)]
    Members(#[from] datadir::Error),
}

/// The members that are configured, by name with their peer URLs; those that etcd is set up with (`initial_cluster`) where
/// none is configured, or all of the same names and without URLs.
pub fn members(configured: &[(String, Vec<String>)], initial_cluster: &str) -> Result<InitialCluster, Error> {
    let without = configured.iter().filter(|(_, urls)| urls.is_empty());
    let without: Vec<String> = without.map(|(name, _)| name.clone()).collect();
    if without.len() == configured.len() {
        let cluster: InitialCluster = initial_cluster.parse()?;
        let known = cluster.iter().count();
        let is_same = known == configured.len() && without.iter().all(|name| cluster.urls_of(name).is_ok());
        if is_same || configured.is_empty() {
            return Ok(cluster);
        }
    }
    if !without.is_empty() {
        return Err(Error::WithoutUrls { names: without });
    }
    let entries = configured.iter().flat_map(|(name, urls)| {
        let urls = urls.iter();
        urls.map(|url| Ok((name.clone(), url.parse::<PeerUrl>()?)))
    });
    let entries: Result<Vec<_>, datadir::Error> = entries.collect();
    Ok(InitialCluster::new(entries?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET_UP: &str = "m1=http://a:2380,m2=http://b:2380";

    fn configured(members: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        let members = members.iter();
        members
            .map(|(name, urls)| ((*name).to_owned(), urls.iter().map(ToString::to_string).collect()))
            .collect()
    }

    fn names(found: Result<InitialCluster, Error>) -> Vec<String> {
        found.unwrap().iter().map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn the_configuration_decides_unless_it_names_no_addresses_at_all() {
        assert_eq!(names(members(&[], SET_UP)), ["m1", "m2"]);
        let all = configured(&[("m1", &["http://c:2380"]), ("m3", &["http://d:2380", "http://e:2380"])]);
        let found = members(&all, SET_UP).unwrap();
        assert_eq!(found.urls_of("m3").unwrap().len(), 2);
        assert_eq!(names(Ok(found)), ["m1", "m3"]);
        assert_eq!(
            names(members(&configured(&[("m1", &[]), ("m2", &[])]), SET_UP)),
            ["m1", "m2"]
        );
    }

    #[test]
    fn members_without_addresses_are_named() {
        let missing =
            |members: &[(&str, &[&str])]| super::members(&configured(members), SET_UP).unwrap_err().to_string();
        assert_eq!(
            missing(&[("m1", &[]), ("m3", &[])]),
            "`peer_urls` is missing in [members] for m1, m3"
        );
        assert_eq!(
            missing(&[("m1", &["http://c:2380"]), ("m2", &[])]),
            "`peer_urls` is missing in [members] for m2"
        );
        assert_eq!(missing(&[("m1", &[])]), "`peer_urls` is missing in [members] for m1");
    }

    #[test]
    fn who_is_left_out_must_be_known() {
        let cluster: InitialCluster = SET_UP.parse().unwrap();
        assert_eq!(names(Ok(cluster.without(&["m2".to_owned()]).unwrap())), ["m1"]);
        assert!(matches!(
            cluster.without(&["m9".to_owned()]),
            Err(datadir::Error::UnknownMember { .. })
        ));
        assert_eq!(
            cluster.without(&["m1".to_owned(), "m2".to_owned()]).unwrap_err(),
            datadir::Error::Empty
        );
    }
}
