//! `lifeboat rebuild`: a data directory, offline.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use clap::ValueHint;
use serde::Serialize;

use super::arguments::{SourceArgs, Used};
use super::{Context, Exit, Failure};
use crate::datadir::{self, InitialCluster, Membership, PeerUrl};
use crate::error_chain::with_causes;
use crate::jobs::source::{described, source_failure};
use crate::keyspace::{self, EtcdLine};
use crate::layout::Manifest;
use crate::model::{ByteSize, ClusterId, HashKv, MemberId, Revision};
use crate::rebuild::{ContentProof, DigestRule, Error, Expected, Plan, Progress, Rebuilt, rebuild};
use crate::restore::{LedgerPaths, Word};
use crate::settings::shell_word as word;
use crate::terminal::{Bar, Format, Output};
use crate::text::{compacted, count};

/// Where the agent of a package remembers things.
const AGENTS_STATE: &str = "/var/lib/lifeboat";

/// Lay out a data directory for one member, without etcd and without any of its tools
///
/// Flags and meaning are those of `etcdutl snapshot restore`. Members of one cluster must be rebuilt from the same
/// backup, with the same initial cluster and the same token, each under its own name. The directory must be absent or
/// empty; it gets its name only when everything in it was checked and is on the disk.
#[derive(clap::Args)]
#[command(
    after_help = "Example, on the host of m1:\n  lifeboat rebuild latest --identity backup-key.txt --data-dir /var/lib/etcd/default \\\n    \
    --name m1 --initial-cluster m1=http://10.0.0.1:2380,m2=http://10.0.0.2:2380 \\\n    \
    --initial-cluster-token restored-1 --initial-advertise-peer-urls http://10.0.0.1:2380"
)]
pub struct Args {
    #[command(flatten)]
    pub(super) source: SourceArgs,
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
    /// Raise the revision by this much, so that no client has seen a later one; needs --mark-compacted
    #[arg(long, value_name = "N", requires = "mark_compacted")]
    bump_revision: Option<NonZeroU64>,
    /// Mark everything before the raised revision as compacted; needs --bump-revision
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// The line of etcd that will run on it, where that is older than the backup: 3.4, 3.5, 3.6 or 3.7
    #[arg(long, value_name = "LINE")]
    etcd_version: Option<EtcdLine>,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    backup: Option<Used>,
    data_dir: PathBuf,
    wal_dir: Option<PathBuf>,
    member_id: MemberId,
    cluster_id: ClusterId,
    cluster_token: String,
    revision: Revision,
    hash_kv: HashKv,
    proof: &'static str,
    live_keys: u64,
    leases: Vec<LeaseDocument>,
    auth_enabled: bool,
    flags: BTreeMap<&'static str, String>,
    #[serde(skip)]
    members: usize,
    /// What gives the directories to etcd's user, where root has made them.
    #[serde(skip)]
    chown: Option<String>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct LeaseDocument {
    id: String,
    ttl_seconds: i64,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let plan = plan(&args)?;
    let interrupted = super::interrupted_flag(context);
    let found = args.source.find(context)?;
    let manifest = found.manifest.clone();
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
                    Progress::Publishing => {}
                }
                match interrupted.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            };
            rebuild(source, &plan, &listener)
        },
        Error::is_fault_of_source,
        |error| failure(error, &args, manifest.as_ref()),
    )?;
    let mut document = document(&args, &plan, &rebuilt, manifest.as_ref());
    // For people that is the first of the next steps.
    if let (Format::Json, Some(chown)) = (context.output.format, &document.chown) {
        let text = format!("what was made belongs to root; for an etcd that runs as user etcd: {chown}");
        document.warnings.push(text);
    }
    for warning in &document.warnings {
        context.output.warn(warning);
    }
    let is_accepted = leave_word(&document);
    match context.output.format {
        Format::Json => context.output.json(&document),
        Format::Text => print(&context.output, &document, &rebuilt, manifest.as_ref(), is_accepted),
    }
    Ok(Exit::Done)
}

fn plan(args: &Args) -> Result<Plan, Failure> {
    let usage = |error: datadir::Error| {
        let failure = Failure::new(Exit::Usage, &error);
        match error {
            datadir::Error::UnknownMember { .. } => {
                failure.next("give --name and --initial-cluster together, as etcd will run")
            }
            datadir::Error::AdvertisedElsewhere { .. } => {
                failure.next("give --initial-advertise-peer-urls as the initial cluster has it for this member")
            }
            _ => failure,
        }
    };
    let cluster: InitialCluster = args.initial_cluster.parse().map_err(usage)?;
    let advertised = args
        .initial_advertise_peer_urls
        .iter()
        .map(|url| url.parse::<PeerUrl>());
    let advertised = advertised.collect::<Result<Vec<_>, _>>().map_err(usage)?;
    cluster
        .check_advertised(&args.name, &advertised, resolve)
        .map_err(usage)?;
    let membership = Membership::new(&cluster, &args.initial_cluster_token).map_err(usage)?;
    let member = membership
        .member(&args.name)
        .expect("its URLs have been checked")
        .clone();
    Ok(Plan {
        membership,
        member,
        data_dir: absolute(&args.data_dir)?,
        wal_dir: args.wal_dir.as_deref().map(absolute).transpose()?,
        bump: args.bump_revision,
        line: args.etcd_version,
        digest: match args.skip_hash_check {
            true => DigestRule::Skipped,
            false => DigestRule::Required,
        },
        expected: None,
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(Exit::Usage, format!("`{}`: {error}", path.display())))
}

fn resolve(host: &str, port: u16) -> Option<SocketAddr> {
    (host, port).to_socket_addrs().ok()?.next()
}

fn expected(manifest: &Manifest) -> Expected {
    Expected {
        sha256: manifest.plain.sha256,
        revision: manifest.to_revision,
        hash_kv: manifest.hash_kv,
    }
}

fn failure(error: Error, args: &Args, manifest: Option<&Manifest>) -> Failure {
    match &error {
        Error::Content {
            error: keyspace::Error::Downgrade { .. },
            ..
        } => Failure::new(Exit::Refused, with_causes(&error)).next(format!(
            "leave out --etcd-version{}, and run an etcd that reads it",
            args.etcd_version.map_or(String::new(), |line| format!(" {line}"))
        )),
        _ => refused_by(&error, manifest),
    }
}

/// A failure of laying out a data directory.
pub(super) fn refused_by(error: &Error, manifest: Option<&Manifest>) -> Failure {
    let text = with_causes(error);
    let failed = |exit| Failure::new(exit, &text);
    match error {
        Error::NotEmpty { path } => failed(Exit::Refused).next(format!(
            "move what is there aside (`mv {0} {0}.old`), or give another directory: nothing is ever overwritten",
            path.display()
        )),
        Error::Running { .. } => {
            failed(Exit::Refused).next("stop it first (`systemctl stop etcd`), then move its data aside")
        }
        Error::Nested { .. } => failed(Exit::Usage)
            .next("give --wal-dir a place outside the data directory, or leave it out: the log is then in member/wal"),
        Error::WithoutLog { .. } => failed(Exit::Failed)
            .next("start no etcd on it; when the cause is gone, run the same command again: it begins anew"),
        Error::Busy { .. } => failed(Exit::Locked).next("wait until it is done"),
        Error::NoDigest { .. } => failed(Exit::Refused).next("if that is meant, say so with --skip-hash-check"),
        Error::Source(error) => source_failure(error, manifest),
        Error::DigestDiffers { .. } | Error::NotAsRecorded { .. } | Error::Unsound { .. } => {
            failed(Exit::Damaged).next("choose another backup: `lifeboat list`")
        }
        Error::Content {
            error: keyspace::Error::Downgrade { .. },
            ..
        } => failed(Exit::Refused).next("run an etcd that reads it"),
        Error::Content { .. } => failed(Exit::Damaged),
        Error::TooLittleSpace { .. } => failed(Exit::Failed).next("make room, or give another directory"),
        Error::BuiltUnsound { .. } | Error::Build(_) | Error::Io { .. } => {
            failed(Exit::Failed).next("nothing was kept; when the disk is well and has room, run it again")
        }
        Error::Interrupted => failed(Exit::Failed),
    }
}

fn document(args: &Args, plan: &Plan, rebuilt: &Rebuilt, manifest: Option<&Manifest>) -> Document {
    let mut flags = BTreeMap::from([
        ("--data-dir", plan.data_dir.display().to_string()),
        ("--name", args.name.clone()),
        ("--initial-advertise-peer-urls", plan.member.peer_urls.join(",")),
        ("--initial-cluster", args.initial_cluster.clone()),
        // With it etcd never makes a new cluster in a directory that turns out to be empty.
        ("--initial-cluster-state", "existing".to_owned()),
        ("--initial-cluster-token", args.initial_cluster_token.clone()),
    ]);
    if let Some(wal_dir) = &plan.wal_dir {
        flags.insert("--wal-dir", wal_dir.display().to_string());
    }
    Document {
        schema: 1,
        backup: manifest.map(Used::of),
        data_dir: plan.data_dir.clone(),
        wal_dir: plan.wal_dir.clone(),
        member_id: plan.member.id,
        cluster_id: plan.membership.cluster_id(),
        cluster_token: args.initial_cluster_token.clone(),
        revision: rebuilt.revision,
        hash_kv: rebuilt.hash_kv,
        proof: match rebuilt.proof {
            ContentProof::Content => "content",
            ContentProof::HashKv => "hash_kv",
        },
        live_keys: rebuilt.live_keys,
        leases: rebuilt
            .leases
            .iter()
            .map(|lease| LeaseDocument {
                id: lease.id.to_string(),
                ttl_seconds: lease.ttl_seconds,
            })
            .collect(),
        auth_enabled: rebuilt.auth.enabled,
        flags,
        members: plan.membership.members().len(),
        chown: chown(plan, rebuilt),
        warnings: warnings(args, rebuilt),
    }
}

fn warnings(args: &Args, rebuilt: &Rebuilt) -> Vec<String> {
    let mut warnings = Vec::new();
    if rebuilt.live_keys == 0 {
        warnings.push("there is not a single key in it: is this the right backup?".to_owned());
    }
    if rebuilt.digest_was_absent {
        warnings.push(
            "the source is a copy of a database file: changes that were only in its write-ahead log are not in it, and a \
             copy of a running etcd's file may miss more"
                .to_owned(),
        );
    }
    if args.initial_cluster_token == "etcd-cluster" {
        warnings.push(
            "the token is etcd's default: with the same URLs the new cluster has the same ids as any before it, and a \
             member of an old one could join; give one of its own with --initial-cluster-token"
                .to_owned(),
        );
    }
    for id in &rebuilt.added_leases {
        warnings.push(format!(
            "keys use lease {id}, which had no entry: it was added with a lifetime of 1 h"
        ));
    }
    for alarm in &rebuilt.cleared_alarms {
        warnings.push(format!(
            "alarm {} of member {} was active and has been cleared",
            alarm.kind, alarm.member
        ));
    }
    if let Some(version) = &rebuilt.dropped_storage_version {
        warnings.push(format!("storage version {version} was removed for the older etcd"));
    }
    warnings
}

fn chown(plan: &Plan, rebuilt: &Rebuilt) -> Option<String> {
    let dirs = [&plan.data_dir].into_iter().chain(&plan.wal_dir);
    let dirs: Vec<String> = dirs.map(|dir| word(&dir.display().to_string()).into_owned()).collect();
    let is_roots = rebuilt.owner.is_none() && nix::unistd::geteuid().is_root();
    is_roots.then(|| format!("chown -R etcd: {}", dirs.join(" ")))
}

fn print(output: &Output, document: &Document, rebuilt: &Rebuilt, manifest: Option<&Manifest>, is_accepted: bool) {
    let field = |name: &str, value: String| output.line(format!("{name:<14} {value}"));
    if let Some(manifest) = manifest {
        field("backup", described(manifest));
    }
    field("data directory", document.data_dir.display().to_string());
    if let Some(wal_dir) = &document.wal_dir {
        field("wal directory", wal_dir.display().to_string());
    }
    field("cluster id", document.cluster_id.to_string());
    field("member id", document.member_id.to_string());
    field("revision", document.revision.to_string());
    let hash = document.hash_kv;
    let compacted = compacted(hash);
    let proof = match rebuilt.proof {
        ContentProof::HashKv => ", equal to what the member reported",
        ContentProof::Content => "",
    };
    field(
        "HashKV",
        format!("{} at revision {}, {compacted}{proof}", hash.hash, hash.revision),
    );
    field(
        "keys",
        format!("{} in {}", rebuilt.live_keys, ByteSize(rebuilt.database_bytes)),
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
    output.line("etcd needs these flags now, besides those of its clients:");
    let flags: Vec<String> = document
        .flags
        .iter()
        .map(|(flag, value)| format!("  {flag} {}", word(value)))
        .collect();
    output.line(flags.join(" \\\n"));
    output.line("");
    output.line("next:");
    if let Some(chown) = &document.chown {
        output.line(format!("  if etcd runs as user etcd: {chown}"));
    }
    if let (Some(manifest), true) = (manifest, document.members > 1) {
        output.line(format!(
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

/// On a host where the agent is at home, root's word that this history is meant, for its first backup. Whether it was left.
fn leave_word(document: &Document) -> bool {
    let is_agents_host = nix::unistd::geteuid().is_root()
        && std::env::var_os("STATE_DIRECTORY").is_none()
        && Path::new(AGENTS_STATE).is_dir();
    let word = Word::new(document.cluster_id, document.revision, "rebuild");
    is_agents_host && word.leave(&LedgerPaths::default()).is_ok()
}
