//! `lifeboat rebuild`: a data directory, offline.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueHint;

use super::arguments::{PointArgs, SourceArgs, duration};
use super::{Context, Exit, Failure};
use crate::etcd_settings::shell_word as word;
use crate::jobs::follow;
use crate::jobs::inspect::refuse_living;
use crate::jobs::point::Point;
use crate::jobs::rebuild::{Asked, Flags, Made, expected, failure, leave_word, left_behind};
use crate::jobs::source::described;
use crate::json;
use crate::keyspace::EtcdLine;
use crate::model::ByteSize;
use crate::rebuild::{ContentProof, DigestRule, Error, LeftBehind, Plan, Progress, Rewrite, rebuild};
use crate::terminal::{Bar, Format, Output};
use crate::text::{compacted, count};

/// Lay out a data directory for one member, without etcd and without any of its tools
///
/// Flags and meaning are those of `etcdutl snapshot restore`. Members of one cluster must be rebuilt from the same
/// backup, with the same initial cluster and the same token, each under its own name. The directory must be absent or
/// empty; it gets its name only when everything in it was checked and is on the disk.
#[derive(clap::Args)]
#[command(
    after_help = "Example, on the host of m1:\n  lifeboat rebuild latest --identity backup-key.txt --data-dir /var/lib/etcd/default \\\n    \
    --name m1 --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380 \\\n    \
    --initial-cluster-token restored-1 --initial-advertise-peer-urls http://10.0.0.1:2380\n\n\
    As it was a quarter of an hour ago, or before a key was deleted:\n  lifeboat rebuild latest --to-time '15m ago' --identity backup-key.txt --data-dir /var/lib/etcd/default\n  \
    lifeboat rebuild latest --before-delete /registry/namespaces/shop --identity backup-key.txt --data-dir /var/lib/etcd/default\n\n\
    A copy that is kept a few seconds behind:\n  lifeboat rebuild latest --follow --identity backup-key.txt --data-dir /var/lib/etcd/warm\n\n\
    Of the disk of a dead member, its log included:\n  lifeboat rebuild /srv/copy-of-m1 --from-data-dir --data-dir /var/lib/etcd/default"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) source: SourceArgs,
    #[command(flatten)]
    point: PointArgs,
    /// Where to lay it out; absent or empty
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// A place of its own for the write-ahead log; etcd then needs --wal-dir too
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// The member's name
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other, default_value = "default")]
    name: String,
    /// All members of the new cluster: m1=URL,m2=URL
    #[arg(long, value_name = "MEMBERS", default_value = "default=http://localhost:2380")]
    initial_cluster: String,
    /// Tells this cluster from any other; best one that was never used
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// Where the other members reach this one
    #[arg(
        long,
        value_name = "URLS",
        default_value = "http://localhost:2380",
        value_delimiter = ','
    )]
    initial_advertise_peer_urls: Vec<String>,
    /// Accept a source without a SHA-256 at its end, such as a copied member/snap/db
    #[arg(long)]
    skip_hash_check: bool,
    /// Write the database anew, without free pages
    #[arg(long)]
    defrag: bool,
    /// The same, and without what etcd's compaction has given up; with --mark-compacted, that is all history
    #[arg(long)]
    compact: bool,
    /// SOURCE is the data directory of a dead member: what only its log holds is rebuilt too
    #[arg(long, conflicts_with_all = ["defrag", "compact"])]
    from_data_dir: bool,
    /// Where the log of that member is, if its etcd ran with --wal-dir
    #[arg(long, value_name = "DIR", requires = "from_data_dir")]
    from_wal_dir: Option<PathBuf>,
    /// Raise the revision by this much, so that no client has seen a later one; needs --mark-compacted
    #[arg(long, value_name = "N", requires = "mark_compacted")]
    bump_revision: Option<NonZeroU64>,
    /// Mark everything before the raised revision as compacted; needs --bump-revision
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Lay out `latest`, and keep it a few seconds behind with the deltas that come, until this is ended
    #[arg(long, conflicts_with_all = ["wal_dir", "skip_hash_check", "defrag", "compact", "from_data_dir", "bump_revision",
        "mark_compacted"])]
    follow: bool,
    /// How often it is looked what has come
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration, requires = "follow")]
    every: Duration,
    /// The line of etcd that will run on it, where that is older than the backup: 3.4, 3.5, 3.6 or 3.7
    #[arg(long, value_name = "LINE")]
    etcd_version: Option<EtcdLine>,
}

impl Args {
    fn asked(&self) -> Asked<'_> {
        Asked {
            data_dir: &self.data_dir,
            wal_dir: self.wal_dir.as_deref(),
            name: &self.name,
            members: &self.initial_cluster,
            token: &self.initial_cluster_token,
            advertised: &self.initial_advertise_peer_urls,
            digest: match self.skip_hash_check {
                true => DigestRule::Skipped,
                false => DigestRule::Required,
            },
            rewrite: rewrite(self.defrag, self.compact),
            bump: self.bump_revision,
            line: self.etcd_version,
        }
    }
}

/// What the two flags come to.
pub(super) fn rewrite(defrag: bool, compact: bool) -> Rewrite {
    match (defrag, compact) {
        (_, true) => Rewrite::Compacted,
        (true, false) => Rewrite::Defragmented,
        (false, false) => Rewrite::Not,
    }
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let plan = args.asked().plan()?;
    let interrupted = super::interrupted_flag(context);
    if args.follow {
        if args.source.source() != "latest" || args.point.point() != Point::OfSource {
            let message = "`--follow` keeps up with what comes: there is no other point to stay at";
            return Err(Failure::new(Exit::Usage, message).next("give `latest` as SOURCE, and no point"));
        }
        let asked = follow::Asked {
            source: args.source.asked(context),
            plan: &plan,
            every: args.every,
        };
        return super::follow::run(context, &asked, &args.asked().flags(&plan), &interrupted);
    }
    let left = left_behind(args.source.source(), args.from_data_dir, &plan)?;
    let (source, plan) = match left {
        None => (args.source.clone(), plan),
        Some(left) => {
            let source = args.source.of_file(&left.database);
            let left = Some(LeftBehind {
                database: left.database,
                wal_dir: args.from_wal_dir.clone().unwrap_or(left.wal_dir),
            });
            // A database file has none.
            let digest = DigestRule::Skipped;
            refuse_living(source.source())?;
            (source, Plan { left, digest, ..plan })
        }
    };
    let found = source.find_point(context, &args.point.point())?;
    let manifest = found.manifest.clone();
    found.say_point(&context.output);
    let rebuilt = found.with_each(
        &context.output,
        |source, manifest| {
            let plan = Plan {
                expected: manifest.map(expected),
                ..plan.clone()
            };
            let bar = Bar::new(&context.output, "rebuild");
            let length = source.length();
            let listener = |progress: Progress| {
                match progress {
                    Progress::Reading { bytes } => bar.at(bytes, length.unwrap_or(bytes)),
                    Progress::Checking => bar.now("checking"),
                    Progress::Applying { .. } => bar.now("applying changes"),
                    Progress::Publishing => {}
                }
                match interrupted.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            rebuild(source, found.changes(), &plan, &listener)
        },
        Error::is_fault_of_source,
        |error| failure(&error, args.etcd_version, manifest.as_ref()),
    );
    found.tell_notes(&context.output);
    let rebuilt = rebuilt?;
    let mut made = Made::of(&args.asked(), &plan, &rebuilt, manifest.as_ref());
    // For people that is the first of the next steps.
    if let (Format::Json, Some(chown)) = (context.output.format, &made.chown) {
        let text = format!("what was made belongs to root; for an etcd that runs as user etcd: {chown}");
        made.warnings.push(text);
    }
    for warning in &made.warnings {
        context.output.warn(warning);
    }
    let is_accepted = leave_word(plan.membership.cluster_id(), rebuilt.revision);
    match context.output.format {
        Format::Json => context.output.json(&json::rebuild::Document::of(&made)),
        Format::Text => print(&context.output, &made, is_accepted),
    }
    Ok(Exit::Done)
}

fn print(output: &Output, made: &Made<'_>, is_accepted: bool) {
    let Made {
        plan,
        rebuilt,
        manifest,
        flags,
        ..
    } = made;
    let field = |name: &str, value: String| output.field(name, value);
    if let Some(manifest) = manifest {
        field("backup", described(manifest));
    }
    field("data directory", plan.data_dir.display().to_string());
    if let Some(wal_dir) = &plan.wal_dir {
        field("wal directory", wal_dir.display().to_string());
    }
    field("cluster id", plan.membership.cluster_id().to_string());
    field("member id", plan.member.id.to_string());
    field("revision", rebuilt.revision.to_string());
    if let Some(salvaged) = &rebuilt.salvaged {
        let entries = match salvaged.entries {
            1 => "1 entry".to_owned(),
            entries => format!("{entries} entries"),
        };
        let revisions = match salvaged.first {
            Some(first) => format!("revisions {first} to {}", salvaged.last),
            None => "which change no key".to_owned(),
        };
        field(
            "from the log",
            format!("{entries} that the database did not hold: {revisions}"),
        );
    }
    if let Some(applied) = &rebuilt.applied {
        let matched = match applied.checkpoints.matched {
            Some(matched) => format!("; HashKV is what a member reported at revision {matched}"),
            None => String::new(),
        };
        field(
            "changes",
            format!(
                "{} behind revision {}, of {}{matched}",
                count(applied.revisions, "revision"),
                applied.from,
                count(applied.deltas, "delta")
            ),
        );
    }
    let hash = rebuilt.hash_kv;
    let compacted = compacted(hash);
    let proof = match rebuilt.proof {
        ContentProof::HashKv => ", equal to what the member reported",
        ContentProof::Content => "",
    };
    field(
        "HashKV",
        format!("{} at revision {}, {compacted}{proof}", hash.hash, hash.revision),
    );
    let before = rebuilt.rewritten.map_or(String::new(), |rewritten| {
        format!(", which were {}", ByteSize(rewritten.bytes_before))
    });
    field(
        "keys",
        format!("{} in {}{before}", rebuilt.live_keys, ByteSize(rebuilt.database_bytes)),
    );
    if !rebuilt.leases.is_empty() {
        let shortest = rebuilt.leases.iter().map(|lease| lease.ttl_seconds).min().unwrap_or(0);
        field(
            "leases",
            format!(
                "{} on {}; they run again in full from the first leader on, the shortest {shortest} s",
                count(rebuilt.leases.len() as u64, "lease"),
                count(rebuilt.leased_keys, "key")
            ),
        );
    }
    field(
        "auth",
        if rebuilt.auth.enabled {
            "enabled, with the users of the backup"
        } else {
            "disabled"
        }
        .to_owned(),
    );
    output.line("");
    print_flags(output, flags);
    output.line("");
    output.line("next:");
    if let Some(chown) = &made.chown {
        output.line(format!("  if etcd runs as user etcd: {chown}"));
    }
    if let (Some(manifest), true) = (manifest, plan.membership.members().len() > 1) {
        output.sentence(format!(
            "  on the other hosts the same backup, each with its own name: `lifeboat rebuild {} …`",
            manifest.chain
        ));
    }
    output.line("  start etcd");
    match is_accepted {
        true => output.line("  take the first backup of it: lifeboat backup --wait 5m"),
        false => {
            output.line("  the first backup after that opens a new lineage:");
            output.line("    lifeboat backup --wait 5m && lifeboat accept-lineage");
        }
    }
}

/// What etcd is to be started with, to be typed.
pub(super) fn print_flags(output: &Output, flags: &Flags) {
    output.line("etcd needs these flags now, besides those of its clients:");
    let flags: Vec<String> = flags
        .iter()
        .map(|(flag, value)| format!("  {flag} {}", word(value)))
        .collect();
    output.line(flags.join(" \\\n"));
}
