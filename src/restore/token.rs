//! The token of a restored cluster, made from what is restored and to whom.
//!
//! ```text
//! SHA-256 over  PLAIN_SHA256 LF REVISION LF BUMP LF NAME=URL,NAME=URL… LF REPLACED_CLUSTER_ID LF
//! lifeboat-<the first 16 hexadecimal digits>, or T-<the first 8> with `--cluster-token T`
//! ```
//!
//! Invariant: hosts that restore the same backup with the same configuration get the same token without talking to each
//! other, and with another backup they get another: members over different data never form a quorum.

use sha2::{Digest as _, Sha256};

use crate::datadir::InitialCluster;
use crate::model::{ClusterId, Digest, Revision};

/// What a token is made from. Nothing here depends on the host.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    /// SHA-256 of the whole plain backup.
    pub sha256: Digest,
    /// The revision that is restored.
    pub revision: Revision,
    /// By how much revisions jump; 0 if they do not.
    pub bump: u64,
    /// The members of the new cluster.
    pub members: &'a InitialCluster,
    /// The cluster that the backup is of, where that is known.
    pub replaces: Option<ClusterId>,
}

impl Ingredients<'_> {
    /// The token; `given` is the operator's own beginning of it.
    pub fn token(&self, given: Option<&str>) -> String {
        let digest = self.digest().to_string();
        match given {
            Some(given) => format!("{given}-{}", &digest[..8]),
            None => format!("lifeboat-{}", &digest[..16]),
        }
    }

    fn digest(&self) -> Digest {
        let replaces = self.replaces.map(|id| id.to_string()).unwrap_or_default();
        let (sha256, revision, bump, members) = (self.sha256, self.revision, self.bump, initial_cluster(self.members));
        let text = format!("{sha256}\n{revision}\n{bump}\n{members}\n{replaces}\n");
        Digest(Sha256::digest(text).into())
    }
}

/// The members as `--initial-cluster` takes them, in order.
pub fn initial_cluster(members: &InitialCluster) -> String {
    let entries = members
        .iter()
        .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
    entries.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> InitialCluster {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_the_same_on_every_host_and_another_for_anything_else() {
        let three = members("m2=http://b:2380,m1=http://a:2380,m3=http://c:2380");
        let reordered = members("m3=http://c:2380,m1=http://a:2380,m2=http://b:2380");
        let two = members("m1=http://a:2380,m2=http://b:2380");
        let base = Ingredients {
            sha256: Digest([7; 32]),
            revision: Revision::new(42).unwrap(),
            bump: 0,
            members: &three,
            replaces: Some(ClusterId(0xab)),
        };
        // Computed with sha256sum over the five lines.
        assert_eq!(base.token(None), "lifeboat-2996ecd32b23b122");
        assert_eq!(base.token(Some("prod")), "prod-2996ecd3");
        let same = Ingredients {
            members: &reordered,
            ..base
        };
        assert_eq!(same.token(None), base.token(None));
        let others = [
            Ingredients {
                sha256: Digest([8; 32]),
                ..base
            },
            Ingredients {
                revision: Revision::new(43).unwrap(),
                ..base
            },
            Ingredients { bump: 1, ..base },
            Ingredients { members: &two, ..base },
            Ingredients { replaces: None, ..base },
        ];
        let mut tokens: Vec<String> = others.iter().map(|other| other.token(None)).collect();
        tokens.push(base.token(None));
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), 6);
    }
}
