//! How far a backup is proven by what was seen of it on its way, and by what its member reports.

use super::observed::{Facts, Structure};
use crate::keyspace::Agreement;
use crate::layout::Proof;
use crate::model::HashKv;

/// How far the content of a snapshot is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// So far.
    Proven {
        /// How far.
        proof: Proof,
        /// Why no further.
        short_of: Option<String>,
    },
    /// It is not what etcd served.
    Wrong(Vec<String>),
}

/// Judges what was seen, against what the member `reported` for its revision, or why that is not known.
pub fn judge(facts: &Facts, reported: Result<HashKv, &str>) -> Verdict {
    let so_far = |proof, why: &str| Verdict::Proven {
        proof,
        short_of: Some(why.to_owned()),
    };
    let log = match &facts.structure {
        Structure::Damaged(faults) => return Verdict::Wrong(faults.clone()),
        Structure::Unseen => {
            return so_far(
                Proof::Stored,
                "the database has more pages or entries than are followed as they pass: `lifeboat verify` with an identity \
                 proves it",
            );
        }
        Structure::Whole(log) => log,
    };
    let reported = match reported {
        Ok(reported) => reported,
        Err(why) => return so_far(Proof::Content, why),
    };
    let Some(found) = log.hash_kv(reported.revision, reported.compact_revision) else {
        return Verdict::Wrong(vec!["an entry of bucket `key` is no record".to_owned()]);
    };
    match found.compared_with(reported.hash) {
        Agreement::Equal => Verdict::Proven {
            proof: Proof::HashKv,
            short_of: None,
        },
        Agreement::Unknown => so_far(
            Proof::Content,
            "HashKV cannot be compared: no key lives, and how far the member had compacted is not known",
        ),
        Agreement::Different => Verdict::Wrong(vec![format!(
            "its HashKV at revision {} is {}, and {} is what the member reported",
            reported.revision, found.hash, reported.hash
        )]),
    }
}
