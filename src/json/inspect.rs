//! `inspect`.

use serde::Serialize;

use super::Used;
use crate::datadir::wal_reader::End;
use crate::jobs::inspect::{Inspected, LogFound, LogSeen};
use crate::keyspace::{Alarm, EtcdLine, Held, Lease, Member, Version};
use crate::layout::Manifest;
use crate::model::{ClusterId, HashKv, MemberId, Revision};
use crate::source::TrailingDigest;

/// What is in a database.
#[derive(Debug, Serialize)]
pub struct Document {
    schema: u32,
    backup: Option<Used>,
    hash: u32,
    revision: i64,
    total_keys: u64,
    total_bytes: u64,
    live_keys: u64,
    compact_revision: i64,
    hash_kv: HashKv,
    etcd_version: Option<String>,
    members: Vec<MemberDocument>,
    leases: Vec<LeaseDocument>,
    alarms: Vec<AlarmDocument>,
    auth_enabled: bool,
    users: Vec<String>,
    roles: Vec<String>,
    page_bytes: u32,
    pages: u64,
    free_pages: u64,
    compacted_bytes: Option<u64>,
    prefixes: Vec<PrefixDocument>,
    most_versions: Vec<KeyDocument>,
    log: Option<LogDocument>,
    has_digest: bool,
    ok: bool,
    fault_count: u64,
    faults: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct MemberDocument {
    id: String,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    learner: bool,
}

#[derive(Debug, Serialize)]
struct LeaseDocument {
    id: String,
    ttl_seconds: i64,
    keys: u64,
}

#[derive(Debug, Serialize)]
struct AlarmDocument {
    member: String,
    alarm: String,
}

#[derive(Debug, Serialize)]
struct PrefixDocument {
    prefix: String,
    versions: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct KeyDocument {
    key: String,
    versions: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct LogDocument {
    cluster_id: Option<ClusterId>,
    member_id: Option<MemberId>,
    segments: u64,
    end: &'static str,
    end_segment: Option<String>,
    end_offset: Option<u64>,
    term: u64,
    consistent_index: u64,
    committed_index: Option<u64>,
    last_index: u64,
    entries: Option<u64>,
    uncommitted_entries: Option<u64>,
    from_revision: Option<Revision>,
    to_revision: Option<Revision>,
    can_be_rebuilt: bool,
    error: Option<String>,
}

impl Document {
    /// The document of what was inspected, of the backup of `manifest` if it was one; `total_keys` as etcdutl of that line
    /// counts them.
    pub fn of(inspected: &Inspected, manifest: Option<&Manifest>, line: EtcdLine) -> Document {
        let walk = &inspected.walk;
        let summary = &walk.summary;
        let (largest, _) = &inspected.prefixes;
        let lease = |lease: &Lease| LeaseDocument {
            id: lease.id.to_string(),
            ttl_seconds: lease.ttl_seconds,
            keys: inspected.keys_on(lease),
        };
        Document {
            schema: 1,
            backup: manifest.map(Used::of),
            hash: summary.hash,
            revision: inspected.revision(),
            total_keys: inspected.total_keys(line),
            total_bytes: summary.total_bytes,
            live_keys: inspected.live_keys(),
            compact_revision: walk.compact_revision,
            hash_kv: inspected.hash_kv,
            etcd_version: inspected.etcd_version().map(Version::to_string),
            members: summary.members.iter().map(MemberDocument::of).collect(),
            leases: summary.leases.iter().map(lease).collect(),
            alarms: summary.alarms.iter().map(AlarmDocument::of).collect(),
            auth_enabled: summary.auth.enabled,
            users: inspected.users.names.clone(),
            roles: inspected.roles.names.clone(),
            page_bytes: inspected.page_size,
            pages: inspected.pages,
            free_pages: inspected.free_pages(),
            compacted_bytes: inspected.compacted_bytes,
            prefixes: largest.iter().map(PrefixDocument::of).collect(),
            most_versions: inspected.most_versions.iter().map(KeyDocument::of).collect(),
            log: match &inspected.log {
                LogSeen::Not | LogSeen::Missing => None,
                LogSeen::Read(log) => Some(LogDocument::of(log)),
            },
            has_digest: inspected.digest != TrailingDigest::Absent,
            ok: inspected.fault_count() == 0,
            fault_count: inspected.fault_count(),
            faults: inspected.faults().collect(),
            warnings: walk.warnings(),
        }
    }
}

impl MemberDocument {
    fn of(member: &Member) -> MemberDocument {
        MemberDocument {
            id: member.id.to_string(),
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            learner: member.is_learner,
        }
    }
}

impl AlarmDocument {
    fn of(alarm: &Alarm) -> AlarmDocument {
        AlarmDocument {
            member: alarm.member.to_string(),
            alarm: alarm.kind.to_string(),
        }
    }
}

impl PrefixDocument {
    fn of((prefix, held): &(Vec<u8>, Held)) -> PrefixDocument {
        PrefixDocument {
            prefix: String::from_utf8_lossy(prefix).into_owned(),
            versions: held.versions,
            bytes: held.bytes,
        }
    }
}

impl KeyDocument {
    fn of((key, held): &(Vec<u8>, Held)) -> KeyDocument {
        KeyDocument {
            key: String::from_utf8_lossy(key).into_owned(),
            versions: held.versions,
            bytes: held.bytes,
        }
    }
}

impl LogDocument {
    fn of(log: &LogFound) -> LogDocument {
        let (end, segment, offset) = match log.end {
            End::Whole => ("whole", None, None),
            End::Torn { segment, offset, .. } => ("torn", Some(segment), Some(offset)),
            End::Damaged => ("damaged", None, None),
        };
        let beyond = log.beyond.as_ref().ok();
        let revisions = beyond.and_then(|beyond| *beyond.revisions.as_ref().ok()?);
        let error = match &log.beyond {
            Err(error) => Some(error),
            Ok(beyond) => beyond.revisions.as_ref().err(),
        };
        LogDocument {
            cluster_id: log.identity.map(|(cluster, _)| cluster),
            member_id: log.identity.map(|(_, member)| member),
            segments: log.segments,
            end,
            end_segment: segment.map(|segment| segment.to_string()),
            end_offset: offset,
            term: log.term,
            consistent_index: log.consistent_index,
            committed_index: beyond.map(|beyond| beyond.committed_index),
            last_index: log.last_index,
            entries: beyond.map(|beyond| beyond.entries),
            uncommitted_entries: beyond.map(|beyond| beyond.uncommitted),
            from_revision: revisions.map(|(from, _)| from),
            to_revision: revisions.map(|(_, to)| to),
            can_be_rebuilt: error.is_none(),
            error: error.cloned(),
        }
    }
}
