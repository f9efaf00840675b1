//! `lifeboat inspect`: what is in a snapshot, or in a member's database.

use std::path::PathBuf;

use serde::Serialize;

use super::arguments::{SourceArgs, Used};
use super::{Context, Exit, Failure};
use crate::datadir::wal_reader::End;
use crate::jobs::host;
use crate::jobs::inspect::{Beyond, DataDir, Inspected, LogFound, LogSeen, data_dir_of, inspect, refuse_living};
use crate::jobs::source::described;
use crate::keyspace::{EtcdLine, Held, Lease, Member, RevisionKey, Version};
use crate::layout::Manifest;
use crate::model::{ByteSize, ClusterId, HashKv, MemberId, Revision};
use crate::source::TrailingDigest;
use crate::terminal::{Format, Output, Table};
use crate::text::{clean, compacted, count};

/// Look into a snapshot or a database: numbers, HashKV, members, what fills it, and every fault
///
/// All of it is read and checked; nothing is written anywhere. A stored backup is held in memory, a plain file is not.
#[derive(clap::Args)]
#[command(
    after_help = "Of the data directory of a member that is dead, the write-ahead log is read too: what it holds beyond the \
    database, and whether it is whole. All other numbers are those of the database. Of a file in it the log is not looked \
    at.\n\n\
    Examples:\n  lifeboat inspect latest --identity backup-key.txt\n  lifeboat inspect ./snapshot.db\n  \
    lifeboat inspect /var/lib/etcd"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    /// Compute HashKV at this revision instead of the last one
    #[arg(long, value_name = "N")]
    revision: Option<Revision>,
    /// Print keys as `etcdutl snapshot status` of this line does: 3.6 and later count live keys, earlier ones all entries
    #[arg(long = "as", value_name = "VERSION", default_value = "3.5")]
    line: EtcdLine,
    /// Where the write-ahead log of a data directory is, if etcd ran with --wal-dir
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document {
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

#[derive(Serialize)]
struct MemberDocument {
    id: String,
    name: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
    learner: bool,
}

#[derive(Serialize)]
struct LeaseDocument {
    id: String,
    ttl_seconds: i64,
    keys: u64,
}

#[derive(Serialize)]
struct AlarmDocument {
    member: String,
    alarm: String,
}

#[derive(Serialize)]
struct PrefixDocument {
    prefix: String,
    versions: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct KeyDocument {
    key: String,
    versions: u64,
    bytes: u64,
}

#[derive(Serialize)]
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

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let interrupted = super::interrupted_flag(context);
    let data_dir = data_dir_of(args.source.source())?.map(|found| DataDir {
        wal_dir: args.wal_dir.clone().unwrap_or(found.wal_dir),
        ..found
    });
    let source = match (&data_dir, &args.wal_dir) {
        (Some(data_dir), _) => args.source.of_file(&data_dir.database),
        (None, Some(_)) => {
            let message = "--wal-dir goes with a data directory";
            return Err(
                Failure::new(Exit::Usage, message).next("name the data directory instead of a file or a backup")
            );
        }
        (None, None) => args.source,
    };
    refuse_living(source.source())?;
    let found = source.find(context)?;
    let stop = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
    let memory = host::spare_memory();
    let inspected = inspect(&found, data_dir.as_ref(), args.revision, memory, &context.output, &stop);
    // What was started meanwhile has changed what was read.
    refuse_living(source.source())?;
    let inspected = inspected?;
    match context.output.format {
        Format::Json => context
            .output
            .json(&document(&inspected, found.manifest.as_ref(), args.line)),
        Format::Text => print(&context.output, &inspected, found.manifest.as_ref(), args.line),
    }
    Ok(match inspected.fault_count() {
        0 => Exit::Done,
        _ => Exit::Damaged,
    })
}

/// The number that `etcdutl snapshot status` of a line calls its keys.
fn total_keys(inspected: &Inspected, line: EtcdLine) -> u64 {
    match line {
        EtcdLine::V3_4 | EtcdLine::V3_5 => inspected.walk.summary.total_entries,
        EtcdLine::V3_6 | EtcdLine::V3_7 => inspected.walk.replayed.live_keys.unwrap_or(0),
    }
}

fn live_keys(inspected: &Inspected) -> u64 {
    inspected.walk.replayed.clients_keys().unwrap_or(0)
}

/// The revision as etcd's tools print it: that of the last entry of the log, 0 where it has none.
fn revision(inspected: &Inspected) -> i64 {
    let last = inspected.walk.summary.last.map(RevisionKey::main);
    last.map_or(0, Revision::get)
}

fn etcd_version(inspected: &Inspected) -> Option<&Version> {
    let summary = &inspected.walk.summary;
    summary
        .meta
        .storage_version
        .as_ref()
        .or(summary.cluster_version.as_ref())
}

fn keys_on(inspected: &Inspected, lease: &Lease) -> u64 {
    let leases = &inspected.walk.replayed.leases;
    let place = leases.binary_search_by_key(&lease.id, |(id, _)| *id);
    place.map_or(0, |place| leases[place].1)
}

fn document(inspected: &Inspected, manifest: Option<&Manifest>, line: EtcdLine) -> Document {
    let walk = &inspected.walk;
    let (largest, _) = &inspected.prefixes;
    let member = |member: &Member| MemberDocument {
        id: member.id.to_string(),
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        learner: member.is_learner,
    };
    Document {
        schema: 1,
        backup: manifest.map(Used::of),
        hash: walk.summary.hash,
        revision: revision(inspected),
        total_keys: total_keys(inspected, line),
        total_bytes: walk.summary.total_bytes,
        live_keys: live_keys(inspected),
        compact_revision: walk.compact_revision,
        hash_kv: inspected.hash_kv,
        etcd_version: etcd_version(inspected).map(Version::to_string),
        members: walk.summary.members.iter().map(member).collect(),
        leases: walk
            .summary
            .leases
            .iter()
            .map(|lease| LeaseDocument {
                id: lease.id.to_string(),
                ttl_seconds: lease.ttl_seconds,
                keys: keys_on(inspected, lease),
            })
            .collect(),
        alarms: walk
            .summary
            .alarms
            .iter()
            .map(|alarm| AlarmDocument {
                member: alarm.member.to_string(),
                alarm: alarm.kind.to_string(),
            })
            .collect(),
        auth_enabled: walk.summary.auth.enabled,
        users: inspected.users.names.clone(),
        roles: inspected.roles.names.clone(),
        page_bytes: inspected.page_size,
        pages: inspected.pages,
        free_pages: inspected.free_pages(),
        compacted_bytes: inspected.compacted_bytes,
        prefixes: largest
            .iter()
            .map(|(prefix, held)| PrefixDocument {
                prefix: String::from_utf8_lossy(prefix).into_owned(),
                versions: held.versions,
                bytes: held.bytes,
            })
            .collect(),
        most_versions: inspected
            .most_versions
            .iter()
            .map(|(key, held)| KeyDocument {
                key: String::from_utf8_lossy(key).into_owned(),
                versions: held.versions,
                bytes: held.bytes,
            })
            .collect(),
        log: match &inspected.log {
            LogSeen::Not | LogSeen::Missing => None,
            LogSeen::Read(log) => Some(log_document(log)),
        },
        has_digest: inspected.digest != TrailingDigest::Absent,
        ok: inspected.fault_count() == 0,
        fault_count: inspected.fault_count(),
        faults: inspected.faults().collect(),
        warnings: walk.warnings(),
    }
}

fn log_document(log: &LogFound) -> LogDocument {
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

/// What is said of the log, a line each.
fn said_of_log(log: &LogSeen, is_database: bool) -> Vec<String> {
    let log = match log {
        LogSeen::Not if is_database => {
            return vec!["not looked at: name the data directory, and what only its log holds is told".to_owned()];
        }
        LogSeen::Not => return Vec::new(),
        LogSeen::Missing => {
            return vec!["there is none in the data directory; if etcd ran with --wal-dir, name that".to_owned()];
        }
        LogSeen::Read(log) => log,
    };
    let end = match log.end {
        End::Whole => "whole".to_owned(),
        End::Torn {
            segment,
            offset,
            given_up,
        } => format!("torn at its end, {given_up} bytes from byte {offset} of {segment} on, which etcd gives up"),
        End::Damaged => "damaged".to_owned(),
    };
    let segments = count(log.segments, "segment");
    let mut lines = vec![format!("{segments}, up to entry {}, {end}", log.last_index)];
    match &log.beyond {
        Err(error) => lines.push(format!("what it holds beyond the database cannot be told: {error}")),
        Ok(beyond) => lines.extend(said_beyond(log, beyond)),
    }
    lines
}

fn said_beyond(log: &LogFound, beyond: &Beyond) -> Vec<String> {
    let mut lines = Vec::new();
    let after = log.consistent_index;
    let counted = |number: u64, what: &str| match number {
        1 => format!("1{what} entry"),
        _ => format!("{number}{what} entries"),
    };
    let entries = counted(beyond.entries, " committed");
    match (&beyond.revisions, beyond.entries) {
        (_, 0) => lines.push(format!("the database holds all that is committed, up to entry {after}")),
        (Ok(None), _) => lines.push(format!("{entries} after entry {after}, which change no key")),
        (Ok(Some((from, to))), _) => lines.push(format!(
            "{entries} after entry {after}, where the database ends: revisions {from} to {to} are in the log alone"
        )),
        (Err(error), _) => lines.push(format!(
            "{entries} after entry {after}, where the database ends; {error}"
        )),
    }
    if beyond.uncommitted > 0 {
        let entries = counted(beyond.uncommitted, "");
        lines.push(format!(
            "{entries} after that, of which this member did not know whether they are committed"
        ));
    }
    lines
}

fn print(output: &Output, inspected: &Inspected, manifest: Option<&Manifest>, line: EtcdLine) {
    let field = |name: &str, value: String| output.field(name, value);
    let walk = &inspected.walk;
    let summary = &walk.summary;
    if let Some(manifest) = manifest {
        field("backup", described(manifest));
    }
    let digest = match inspected.digest {
        TrailingDigest::Matches => "etcd's SHA-256 at its end",
        TrailingDigest::Differs => "a wrong SHA-256 at its end",
        TrailingDigest::Absent => "no SHA-256 at its end",
    };
    field("size", format!("{}, {digest}", ByteSize(summary.total_bytes)));
    let free = inspected.free_pages().saturating_mul(u64::from(inspected.page_size));
    field(
        "free in it",
        format!("{}, which etcd fills before it grows", ByteSize(free)),
    );
    if let Some(bytes) = inspected.compacted_bytes {
        field("after compact", ByteSize(bytes).to_string());
    }
    field("hash", format!("{:x}", summary.hash));
    field("revision", revision(inspected).to_string());
    field(
        "keys",
        format!(
            "{} live, {} by etcdutl {line}",
            live_keys(inspected),
            total_keys(inspected, line)
        ),
    );
    let hash = inspected.hash_kv;
    field(
        "HashKV",
        format!("{} at revision {} ({})", hash.hash, hash.revision, compacted(hash)),
    );
    if let Some(version) = etcd_version(inspected) {
        field("etcd", version.to_string());
    }
    for member in &summary.members {
        let name = match member.name.as_str() {
            "" => "(not started)".to_owned(),
            name => clean(name),
        };
        let learner = if member.is_learner { ", a learner" } else { "" };
        let urls = clean(&member.peer_urls.join(","));
        field("member", format!("{name}, id {}, {urls}{learner}", member.id));
    }
    for alarm in &summary.alarms {
        field("alarm", format!("{} of member {}", alarm.kind, alarm.member));
    }
    let leased: u64 = walk.replayed.leases.iter().map(|(_, keys)| keys).sum();
    let leases = match summary.leases.len() {
        0 => "none".to_owned(),
        leases => format!("{leases}, on {}", count(leased, "live key")),
    };
    field("leases", leases);
    let auth = if summary.auth.enabled { "on" } else { "off" };
    field(
        "auth",
        match (inspected.users.count, inspected.roles.count) {
            (0, 0) => auth.to_owned(),
            (users, roles) => format!("{auth}, {}, {}", count(users, "user"), count(roles, "role")),
        },
    );
    let is_database = manifest.is_none() && inspected.digest == TrailingDigest::Absent;
    for (place, line) in said_of_log(&inspected.log, is_database).into_iter().enumerate() {
        field(if place == 0 { "log" } else { "" }, line);
    }
    for fault in inspected.faults() {
        field("fault", clean(&fault));
    }
    let unnamed = inspected.fault_count() - inspected.faults().count() as u64;
    match (inspected.fault_count(), unnamed) {
        (0, _) => field("faults", "none".to_owned()),
        (_, 0) => {}
        (_, more) => field("", format!("and {more} more")),
    }
    for warning in walk.warnings() {
        field("warning", clean(&warning));
    }
    output.line("");
    output.table(&fillers(inspected));
    if !inspected.most_versions.is_empty() {
        output.line("");
        output.table(&most_versions(inspected));
    }
}

/// The keys that are written the most since the last compaction.
fn most_versions(inspected: &Inspected) -> Table {
    let mut table = Table::new(&["KEY", ">VERSIONS", ">SIZE"]);
    for (key, held) in &inspected.most_versions {
        table.row(vec![
            clean(&String::from_utf8_lossy(key)),
            held.versions.to_string(),
            ByteSize(held.bytes).to_string(),
        ]);
    }
    table
}

/// What fills the database, the largest first.
fn fillers(inspected: &Inspected) -> Table {
    let mut table = Table::new(&["PREFIX", ">VERSIONS", ">SIZE"]);
    let mut row = |prefix: String, held: &Held| {
        table.row(vec![
            prefix,
            held.versions.to_string(),
            ByteSize(held.bytes).to_string(),
        ]);
    };
    let (largest, others) = &inspected.prefixes;
    for (prefix, held) in largest {
        let name = match prefix.as_slice() {
            b"" => "(keys without a /)".to_owned(),
            prefix => clean(&String::from_utf8_lossy(prefix)),
        };
        row(name, held);
    }
    if others.versions > 0 {
        row("(all others)".to_owned(), others);
    }
    table
}
