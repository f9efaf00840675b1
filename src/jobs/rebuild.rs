//! A data directory that is laid out by hand: what is asked for as a plan, and what is said of it and of errors.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use super::inspect::{DataDir, data_dir_of};
use super::source::source_failure;
use super::{Exit, Failure};
use crate::datadir::{self, InitialCluster, Membership, PeerUrl};
use crate::error_chain::with_causes;
use crate::etcd_settings::shell_word;
use crate::keyspace::{self, EtcdLine};
use crate::layout::Manifest;
use crate::model::{ClusterId, Revision};
use crate::rebuild::{DigestRule, Error, Expected, Plan, Rebuilt, Rewrite, resolved};
use crate::restore::{LedgerPaths, Word};

/// What is left where a log is of no use.
const WITHOUT_LOG: &str = "start an etcd of the same version on a copy of the data directory, with --force-new-cluster; or give up what \
                           only the log holds: rebuild member/snap/db of it with --skip-hash-check";

/// Where the agent of a package remembers things.
const AGENTS_STATE: &str = "/var/lib/lifeboat";

/// What is asked for, as etcd's flags name it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where to lay it out.
    pub data_dir: &'a Path,
    /// A place of its own for the log.
    pub wal_dir: Option<&'a Path>,
    /// The member's name.
    pub name: &'a str,
    /// All members of the new cluster.
    pub members: &'a str,
    /// The cluster's token.
    pub token: &'a str,
    /// Where the other members reach this one.
    pub advertised: &'a [String],
    /// Whether a source needs a digest at its end.
    pub digest: DigestRule,
    /// Whether the source's pages are kept.
    pub rewrite: Rewrite,
    /// By how much the revision is raised.
    pub bump: Option<NonZeroU64>,
    /// The line of etcd that will run on it, where that is older than the backup.
    pub line: Option<EtcdLine>,
}

impl Asked<'_> {
    /// What is going to be done, once it is known to hold together.
    pub fn plan(&self) -> Result<Plan, Failure> {
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
        let cluster: InitialCluster = self.members.parse().map_err(usage)?;
        let advertised = self.advertised.iter().map(|url| url.parse::<PeerUrl>());
        let advertised = advertised.collect::<Result<Vec<_>, _>>().map_err(usage)?;
        cluster
            .check_advertised(self.name, &advertised, resolve)
            .map_err(usage)?;
        let membership = Membership::new(&cluster, self.token).map_err(usage)?;
        let member = membership
            .member(self.name)
            .expect("its URLs have been checked")
            .clone();
        Ok(Plan {
            membership,
            member,
            data_dir: absolute(self.data_dir)?,
            wal_dir: self.wal_dir.map(absolute).transpose()?,
            bump: self.bump,
            line: self.line,
            digest: self.digest,
            rewrite: self.rewrite,
            expected: None,
            left: None,
            history: None,
        })
    }
}

/// The flags of etcd, by name.
pub type Flags = BTreeMap<&'static str, String>;

impl Asked<'_> {
    /// What etcd is to be started with on what `plan` makes.
    pub fn flags(&self, plan: &Plan) -> Flags {
        let mut flags = BTreeMap::from([
            ("--data-dir", plan.data_dir.display().to_string()),
            ("--name", self.name.to_owned()),
            ("--initial-advertise-peer-urls", plan.member.peer_urls.join(",")),
            ("--initial-cluster", self.members.to_owned()),
            // With it etcd never makes a new cluster in a directory that turns out to be empty.
            ("--initial-cluster-state", "existing".to_owned()),
            ("--initial-cluster-token", self.token.to_owned()),
        ]);
        if let Some(wal_dir) = &plan.wal_dir {
            flags.insert("--wal-dir", wal_dir.display().to_string());
        }
        flags
    }
}

/// A data directory that was made, and what should be known of it.
#[derive(Debug)]
pub struct Made<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// What came of it.
    pub rebuilt: &'a Rebuilt,
    /// The backup that it was made of, unless that was a file.
    pub manifest: Option<&'a Manifest>,
    /// The cluster's token.
    pub token: &'a str,
    /// What etcd is to be started with.
    pub flags: Flags,
    /// What gives the directories to etcd's user, where root has made them.
    pub chown: Option<String>,
    /// What should be known.
    pub warnings: Vec<String>,
}

impl<'a> Made<'a> {
    /// What was made of `manifest`, if that was a backup.
    pub fn of(asked: &Asked<'a>, plan: &'a Plan, rebuilt: &'a Rebuilt, manifest: Option<&'a Manifest>) -> Made<'a> {
        Made {
            plan,
            rebuilt,
            manifest,
            token: asked.token,
            flags: asked.flags(plan),
            chown: chown(plan, rebuilt),
            warnings: warnings(asked.token, rebuilt),
        }
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::new(Exit::Usage, format!("`{}`: {error}", path.display())))
}

fn resolve(host: &str, port: u16) -> Option<SocketAddr> {
    (host, port).to_socket_addrs().ok()?.next()
}

/// What a dead member left behind: the data directory that SOURCE is, if `is_meant` says so.
///
/// Fails where the two do not fit together, and where what is planned would be made inside of it.
pub fn left_behind(source: &str, is_meant: bool, plan: &Plan) -> Result<Option<DataDir>, Failure> {
    match (data_dir_of(source), is_meant) {
        (Ok(None), false) => Ok(None),
        (Ok(Some(_)), false) => {
            let message = format!("{source} is the data directory of a member, not a snapshot");
            Err(Failure::new(Exit::Usage, message).next("if that member is dead, say so with --from-data-dir"))
        }
        // Another directory is told where it is opened.
        (Err(_), false) => Ok(None),
        (found, true) => {
            let found = found?.ok_or_else(|| {
                let message = format!("{source} is no data directory");
                Failure::new(Exit::Usage, message).next("name the directory that has `member` in it; it needs a `/`")
            })?;
            let refused = |error| refused_by(&error, None);
            let left = resolved(Path::new(source)).map_err(refused)?;
            for made in [&plan.data_dir].into_iter().chain(&plan.wal_dir) {
                if resolved(made).map_err(refused)?.starts_with(&left) {
                    let message = format!("{} is in {source}, where nothing is changed", made.display());
                    return Err(Failure::new(Exit::Usage, message).next("give --data-dir a place outside of it"));
                }
            }
            Ok(Some(found))
        }
    }
}

/// What is to come of the backup of `manifest`.
pub fn expected(manifest: &Manifest) -> Expected {
    Expected {
        sha256: manifest.plain.sha256,
        revision: manifest.to_revision,
        hash_kv: manifest.hash_kv,
    }
}

/// A failure of laying out a data directory.
pub fn refused_by(error: &Error, manifest: Option<&Manifest>) -> Failure {
    let text = with_causes(error);
    let failed = |exit| Failure::new(exit, &text);
    match error {
        Error::NotEmpty { path } => failed(Exit::Refused).next(format!(
            "move what is there aside (`mv {0} {0}.old`), or give another directory: nothing is ever overwritten",
            path.display()
        )),
        Error::NotWarm { .. } => failed(Exit::Refused).next(
            "give another directory: what an etcd has run on is not changed, and another member's is not taken over",
        ),
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
        Error::BrokenChanges { good, .. } => failed(Exit::Damaged).next(format!(
            "restore to revision {good} or before, with --to-revision {good}, or from another destination"
        )),
        Error::BaseDiffers { .. } => failed(Exit::Damaged).next(
            "the full backup, or that member, was wrong: compare the members (`lifeboat watch`), and choose another backup: `lifeboat list`",
        ),
        Error::Content {
            error: keyspace::Error::Downgrade { .. },
            ..
        } => failed(Exit::Refused).next("run an etcd that reads it"),
        Error::Content { .. } => failed(Exit::Damaged),
        Error::TooLittleSpace { .. } => failed(Exit::Failed).next("make room, or give another directory"),
        Error::BuiltUnsound { .. } | Error::Build(_) | Error::Io { .. } => {
            failed(Exit::Failed).next("nothing was kept; when the disk is well and has room, run it again")
        }
        Error::LogUnusable { error, .. } => {
            let exit = match error {
                datadir::Unusable::Damaged(_) => Exit::Damaged,
                _ => Exit::Refused,
            };
            failed(exit).next(WITHOUT_LOG)
        }
        Error::CannotExecute { .. } => failed(Exit::Refused).next(WITHOUT_LOG),
        Error::Alive { .. } => failed(Exit::Refused)
            .next("only a dead member's data directory is read: stop it first, or take a backup and rebuild that"),
        Error::NoLog { .. } => {
            failed(Exit::NotFound).next("name the directory that etcd had its log in: its --wal-dir")
        }
        Error::Interrupted => failed(Exit::Failed),
    }
}

/// The same, where the line of etcd was named.
pub fn failure(error: &Error, line: Option<EtcdLine>, manifest: Option<&Manifest>) -> Failure {
    match error {
        Error::Content {
            error: keyspace::Error::Downgrade { .. },
            ..
        } => Failure::new(Exit::Refused, with_causes(error)).next(format!(
            "leave out --etcd-version{}, and run an etcd that reads it",
            line.map_or(String::new(), |line| format!(" {line}"))
        )),
        _ => refused_by(error, manifest),
    }
}

/// What should be known of what was made, for a cluster with this token.
fn warnings(token: &str, rebuilt: &Rebuilt) -> Vec<String> {
    let mut warnings = Vec::new();
    if rebuilt.live_keys == 0 {
        warnings.push("there is not a single key in it: is this the right backup?".to_owned());
    }
    if let Some(salvaged) = rebuilt.salvaged {
        if salvaged.uncommitted > 0 {
            warnings.push(format!(
                "{} at the end of the log were left out: the member did not know whether they are committed, and clients may \
                 have been told that they are",
                salvaged.uncommitted
            ));
        }
        if let Some((segment, offset)) = salvaged.torn {
            warnings.push(format!(
                "the log ends in the middle of a write and was given up there, as etcd does: byte {offset} of {segment}"
            ));
        }
    } else if rebuilt.digest_was_absent {
        warnings.push(
            "the source is a copy of a database file: changes that were only in its write-ahead log are not in it, and a \
             copy of a running etcd's file may miss more"
                .to_owned(),
        );
    }
    if let Some(applied) = rebuilt.applied.filter(|_| rebuilt.auth.enabled) {
        warnings.push(format!(
            "users, roles and passwords are those of the full backup, at revision {}: no change of them is in the deltas",
            applied.from
        ));
    }
    if token == "etcd-cluster" {
        warnings.push(
            "the token is etcd's default: with the same URLs the new cluster has the same ids as any before it, and a \
             member of an old one could join; give one of its own with --initial-cluster-token"
                .to_owned(),
        );
    }
    warnings.extend(rebuilt.warnings_of_source());
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

/// What gives the directories to etcd's user, where root has made them.
fn chown(plan: &Plan, rebuilt: &Rebuilt) -> Option<String> {
    let dirs = [&plan.data_dir].into_iter().chain(&plan.wal_dir);
    let dirs: Vec<String> = dirs
        .map(|dir| shell_word(&dir.display().to_string()).into_owned())
        .collect();
    let is_roots = rebuilt.owner.is_none() && nix::unistd::geteuid().is_root();
    is_roots.then(|| format!("chown -R etcd: {}", dirs.join(" ")))
}

/// On a host where the agent is at home, root's word that this history is meant, for its first backup. Whether it was left.
pub fn leave_word(cluster: ClusterId, revision: Revision) -> bool {
    let is_agents_host = nix::unistd::geteuid().is_root()
        && std::env::var_os("STATE_DIRECTORY").is_none()
        && Path::new(AGENTS_STATE).is_dir();
    let word = Word::new(cluster, revision, "rebuild");
    is_agents_host && word.leave(&LedgerPaths::default()).is_ok()
}
