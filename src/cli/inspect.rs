//! `lifeboat inspect`: what is in a snapshot, or in a member's database.

use std::path::PathBuf;

use super::arguments::SourceArgs;
use super::{Context, Exit, Failure};
use crate::datadir::wal_reader::End;
use crate::jobs::host;
use crate::jobs::inspect::{Beyond, DataDir, Inspected, LogFound, LogSeen, data_dir_of, inspect, refuse_living};
use crate::jobs::source::described;
use crate::json;
use crate::keyspace::{EtcdLine, Held};
use crate::layout::Manifest;
use crate::model::{ByteSize, Revision};
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
    found.say_what_follows(&context.output);
    let stop = || interrupted.load(std::sync::atomic::Ordering::Relaxed);
    let memory = host::spare_memory();
    let inspected = inspect(&found, data_dir.as_ref(), args.revision, memory, &context.output, &stop);
    // What was started meanwhile has changed what was read.
    refuse_living(source.source())?;
    let inspected = inspected?;
    match context.output.format {
        Format::Json => {
            let document = json::inspect::Document::of(&inspected, found.manifest.as_ref(), args.line);
            context.output.json(&document);
        }
        Format::Text => print(&context.output, &inspected, found.manifest.as_ref(), args.line),
    }
    Ok(match inspected.fault_count() {
        0 => Exit::Done,
        _ => Exit::Damaged,
    })
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
    field("revision", inspected.revision().to_string());
    field(
        "keys",
        format!(
            "{} live, {} by etcdutl {line}",
            inspected.live_keys(),
            inspected.total_keys(line)
        ),
    );
    let hash = inspected.hash_kv;
    field(
        "HashKV",
        format!("{} at revision {} ({})", hash.hash, hash.revision, compacted(hash)),
    );
    if let Some(version) = inspected.etcd_version() {
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
