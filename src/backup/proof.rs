//! How far a backup is proven by what was seen of it on its way, and by what its member reports.

use super::snapshot_observer::{Facts, Log, Structure};
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

/// Judges what was seen, against what the member `reported` for its revision, or why that is not known; then against what it
/// had reported `before` the stream, for the revision that it had come to then.
pub fn judge(facts: &Facts, reported: Result<HashKv, &str>, before: Option<HashKv>) -> Verdict {
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
        Err(why) => {
            // Entries that a compaction has removed since then are missing here.
            let comparable = before.filter(|before| {
                before.revision <= facts.revision && before.compact_revision >= facts.meta.compaction.compact_revision()
            });
            let Some(before) = comparable else {
                return so_far(Proof::Content, why);
            };
            return match compare(log, before) {
                Agreement::Equal => so_far(
                    Proof::Content,
                    &format!("{why}; at revision {}, just before, HashKV is equal", before.revision),
                ),
                Agreement::Unknown => so_far(Proof::Content, why),
                Agreement::Different => Verdict::Wrong(vec![differs(log, before)]),
            };
        }
    };
    match compare(log, reported) {
        Agreement::Equal => Verdict::Proven {
            proof: Proof::HashKv,
            short_of: None,
        },
        Agreement::Unknown => so_far(
            Proof::Content,
            "HashKV cannot be compared: no key lives, and how far the member had compacted is not known",
        ),
        Agreement::Different => Verdict::Wrong(vec![differs(log, reported)]),
    }
}

fn compare(log: &Log, reported: HashKv) -> Agreement {
    let found = log.hash_kv(reported.revision, reported.compact_revision);
    // Whoever reports a hash has read every entry.
    found.map_or(Agreement::Different, |found| found.compared_with(reported.hash))
}

fn differs(log: &Log, reported: HashKv) -> String {
    match log.hash_kv(reported.revision, reported.compact_revision) {
        Some(found) => format!(
            "its HashKV at revision {} is {}, and {} is what the member reported",
            reported.revision, found.hash, reported.hash
        ),
        None => "an entry of bucket `key` is no record".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::super::Observed;
    use super::*;
    use crate::bbolt::Writer;
    use crate::keyspace::{KeyValue, RevisionKey};
    use crate::model::Revision;
    use crate::pipeline::Observer;

    /// A snapshot with so many keys, each of them put once, and its pages.
    fn snapshot(keys: i64) -> Vec<u8> {
        let mut writer = Writer::fresh(Vec::new(), 4096).unwrap();
        let mut bucket = writer.bucket(b"key").unwrap();
        for main in 2..2 + keys {
            let at = RevisionKey::first_put(Revision::new(main).unwrap()).encode();
            let mut record = Vec::new();
            let key = format!("/key/{main}");
            KeyValue {
                key: key.as_bytes(),
                create_revision: main,
                mod_revision: main,
                version: 1,
                value: &[7; 100],
                lease: 0,
            }
            .encode_into(&mut record);
            bucket.put(&at, &record).unwrap();
        }
        bucket.finish().unwrap();
        writer.finish().unwrap().seal().unwrap().0
    }

    fn facts(database: &[u8]) -> Facts {
        let bytes = [database, &Sha256::digest(database)[..]].concat();
        let mut observed = Observed::new(bytes.len() as u64);
        bytes.chunks(10_000).for_each(|block| observed.observe(block));
        observed.finish().unwrap()
    }

    fn hash_kv(facts: &Facts) -> HashKv {
        let Structure::Whole(log) = &facts.structure else {
            panic!("{:?}", facts.structure)
        };
        log.hash_kv(facts.revision, -1).unwrap().at(facts.revision)
    }

    #[test]
    fn what_equals_the_members_report_is_proven_and_what_differs_is_wrong() {
        let facts = facts(&snapshot(500));
        let own = hash_kv(&facts);
        let proven = Verdict::Proven {
            proof: Proof::HashKv,
            short_of: None,
        };
        assert_eq!(judge(&facts, Ok(own), None), proven);
        let other = HashKv {
            hash: own.hash ^ 1,
            ..own
        };
        assert!(matches!(judge(&facts, Ok(other), None), Verdict::Wrong(faults) if faults[0].contains("HashKV")));
        let unknown = Verdict::Proven {
            proof: Proof::Content,
            short_of: Some("switched off".to_owned()),
        };
        assert_eq!(judge(&facts, Err("switched off"), None), unknown);
    }

    #[test]
    fn where_the_member_has_compacted_past_it_the_report_from_before_is_compared() {
        let facts = facts(&snapshot(500));
        let Structure::Whole(log) = &facts.structure else {
            panic!("{:?}", facts.structure)
        };
        let then = Revision::new(400).unwrap();
        let before = log.hash_kv(then, -1).unwrap().at(then);
        let verdict = judge(&facts, Err("compacted"), Some(before));
        let Verdict::Proven { proof, short_of } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(proof, Proof::Content);
        assert!(
            short_of
                .unwrap()
                .contains("at revision 400, just before, HashKV is equal")
        );
        let other = HashKv {
            hash: before.hash ^ 1,
            ..before
        };
        assert!(matches!(
            judge(&facts, Err("compacted"), Some(other)),
            Verdict::Wrong(_)
        ));
        // Of a time that the backup does not reach, nothing is said.
        let later = HashKv {
            revision: Revision::new(600).unwrap(),
            ..other
        };
        assert!(matches!(
            judge(&facts, Err("compacted"), Some(later)),
            Verdict::Proven { .. }
        ));
    }

    #[test]
    fn a_page_that_is_broken_is_named_though_the_digest_is_right() {
        let mut database = snapshot(500);
        // The order of keys in a leaf somewhere in the middle.
        let page = (2..database.len() / 4096)
            .find(|page| database[page * 4096 + 8] == 2 && database[page * 4096 + 10] > 4)
            .unwrap();
        let key = page * 4096 + 16;
        let pos = u32::from_le_bytes(*database[key + 4..].first_chunk().unwrap()) as usize;
        database[key + pos] = 0x70;
        let facts = facts(&database);
        let verdict = judge(&facts, Err("not asked"), None);
        let Verdict::Wrong(faults) = verdict else {
            panic!("{verdict:?}")
        };
        assert!(faults[0].contains(&format!("page {page}")), "{faults:?}");
    }
}
