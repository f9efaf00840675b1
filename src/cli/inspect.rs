//! `lifeboat inspect`: what is in a snapshot, or in a member's database.

use serde::Serialize;

use super::arguments::{SourceArgs, Used};
use super::{Context, Exit, Failure};
use crate::jobs::host;
use crate::jobs::inspect::{Inspected, database_of, inspect, refuse_living};
use crate::jobs::source::described;
use crate::keyspace::{EtcdLine, Held, Lease, Member, RevisionKey, Version};
use crate::layout::Manifest;
use crate::model::{ByteSize, HashKv, Revision};
use crate::source::TrailingDigest;
use crate::terminal::{Format, Output, Table};
use crate::text::{clean, compacted, count};

/// Look into a snapshot or a database: numbers, HashKV, members, what fills it, and every fault
///
/// All of it is read and checked in memory; nothing is written anywhere.
#[derive(clap::Args)]
#[command(
    after_help = "A data directory or a file in one is read as it is: what is only in its write-ahead log is not seen.\n\n\
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
    prefixes: Vec<PrefixDocument>,
    has_digest: bool,
    ok: bool,
    fault_count: u64,
    faults: Vec<String>,
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

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let interrupted = super::interrupted_flag(context);
    let source = match database_of(args.source.source())? {
        Some(database) => args.source.of_file(&database),
        None => args.source,
    };
    refuse_living(source.source())?;
    let found = source.find(context)?;
    let stop = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
    let inspected = inspect(&found, args.revision, host::spare_memory(), &context.output, &stop);
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
        EtcdLine::V3_6 | EtcdLine::V3_7 => live_keys(inspected),
    }
}

fn live_keys(inspected: &Inspected) -> u64 {
    inspected.walk.replayed.live_keys.unwrap_or(0)
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
        prefixes: largest
            .iter()
            .map(|(prefix, held)| PrefixDocument {
                prefix: String::from_utf8_lossy(prefix).into_owned(),
                versions: held.versions,
                bytes: held.bytes,
            })
            .collect(),
        has_digest: inspected.digest != TrailingDigest::Absent,
        ok: inspected.fault_count() == 0,
        fault_count: inspected.fault_count(),
        faults: inspected.faults().collect(),
    }
}

fn print(output: &Output, inspected: &Inspected, manifest: Option<&Manifest>, line: EtcdLine) {
    let field = |name: &str, value: String| output.line(format!("{name:<15} {value}"));
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
        "authentication",
        match (inspected.users.count, inspected.roles.count) {
            (0, 0) => auth.to_owned(),
            (users, roles) => format!("{auth}, {}, {}", count(users, "user"), count(roles, "role")),
        },
    );
    for fault in inspected.faults() {
        field("fault", clean(&fault));
    }
    let unnamed = inspected.fault_count() - inspected.faults().count() as u64;
    match (inspected.fault_count(), unnamed) {
        (0, _) => field("faults", "none".to_owned()),
        (_, 0) => {}
        (_, more) => field("", format!("and {more} more")),
    }
    output.line("");
    output.table(&fillers(inspected));
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
