//! What is restored, and to whom.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use super::this_host::Here;
use crate::config::Config;
use crate::datadir::{self, InitialCluster};
use crate::durable;
use crate::error_chain::with_causes;
use crate::etcd::{Ahead, Member};
use crate::etcd_settings::EtcdSettings;
use crate::jobs::inspect::data_dir_of;
use crate::jobs::source::{Found, source_failure};
use crate::jobs::{Exit, Failure, Listener};
use crate::rebuild::DigestRule;
use crate::restore::{self, Backup, MembersError, Preview, PreviewError, preview};
use crate::source::TrailingDigest;

/// The largest file of members that is read.
const MOST_BYTES: u64 = 1 << 20;

/// What is restored: by its manifest, or by reading through it.
pub fn backup(
    listener: &dyn Listener,
    found: &Found,
    rule: DigestRule,
    interrupted: &AtomicBool,
) -> Result<Backup, Failure> {
    if let Some(manifest) = &found.manifest {
        let backup = Backup::recorded(manifest);
        return Ok(match found.chosen().filter(|chosen| chosen.is_behind()) {
            Some(chosen) => backup.followed_to(chosen.revision),
            None => backup,
        });
    }
    let progress = listener.progress("looking through the source");
    let mut name = String::new();
    let seen = found.with_each(
        listener,
        |source, _| {
            name = source.name().to_owned();
            let total = source.length();
            preview(source, &|read| {
                progress(read, total.unwrap_or(read));
                interrupted.load(Ordering::Relaxed)
            })
        },
        |_| false,
        preview_failure,
    )?;
    let Some(seen) = seen else {
        return Err(Failure::new(Exit::Failed, "interrupted; nothing was done"));
    };
    refuse_digest(&name, &seen, rule)?;
    Ok(Backup::seen(name, &seen))
}

fn preview_failure(error: PreviewError) -> Failure {
    match &error {
        PreviewError::Source(error) => source_failure(error, None),
        PreviewError::Database { .. } | PreviewError::Keyspace { .. } => {
            Failure::new(Exit::Damaged, with_causes(&error)).next("choose another backup: `lifeboat list`")
        }
    }
}

fn refuse_digest(name: &str, seen: &Preview, rule: DigestRule) -> Result<(), Failure> {
    match (seen.digest, rule) {
        (TrailingDigest::Matches, _) | (_, DigestRule::Skipped) => Ok(()),
        (TrailingDigest::Differs, DigestRule::Required) => Err(Failure::new(
            Exit::Damaged,
            format!("{name} is damaged: its bytes do not match the SHA-256 at its end"),
        )
        .next("choose another backup: `lifeboat list`")),
        (TrailingDigest::Absent, DigestRule::Required) => Err(Failure::new(
            Exit::Refused,
            format!("{name} has no SHA-256 at its end: it is a copy of a database file, or cut short"),
        )
        .next("if that is meant, say so with --skip-hash-check")),
    }
}

/// The members of the new cluster: from a file, from the configuration, or those that etcd is set up with.
pub fn members(
    file: Option<&Path>,
    config: Option<&Config>,
    settings: &EtcdSettings,
) -> Result<InitialCluster, Failure> {
    let usage = |error: datadir::Error| Failure::new(Exit::Usage, error);
    if let Some(file) = file {
        return listed(file)?.parse().map_err(usage);
    }
    let configured = config.into_iter().flat_map(|config| &config.members);
    let configured: Vec<(String, Vec<String>)> = configured
        .map(|(name, member)| {
            (
                name.to_string(),
                member.peer_urls.iter().map(ToString::to_string).collect(),
            )
        })
        .collect();
    restore::members(&configured, &settings.initial_cluster).map_err(|error| {
        let failure = Failure::new(Exit::Usage, &error);
        match error {
            MembersError::WithoutUrls { .. } => failure
                .next("set it as in etcd's --initial-advertise-peer-urls, or give the members with --members FILE"),
            MembersError::Members(_) => failure,
        }
    })
}

/// A file of members as `--initial-cluster` has them: `name=URL`, one a line or between commas; `#` begins a comment.
fn listed(file: &Path) -> Result<String, Failure> {
    let refused = |error: std::io::Error| Failure::new(Exit::Usage, format!("cannot read {}: {error}", file.display()));
    let text = durable::read_given(file, MOST_BYTES).map_err(refused)?;
    let text = String::from_utf8_lossy(&text);
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    Ok(lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(","))
}

/// The release of the etcd that runs here, if it answers.
pub fn version_here(runtime: &Handle, here: &Here) -> Option<String> {
    runtime.block_on(async {
        for url in &here.etcd.client_urls {
            if let Ok(mut member) = Member::connect(url, &here.access.client, Ahead::Far).await
                && let Ok(status) = member.status().await
            {
                return Some(status.version);
            }
        }
        None
    })
}

/// Refuses a data directory: its database is what can be restored, and its log is left out then.
pub(super) fn refuse_data_dir(source: &str) -> Result<(), Failure> {
    let Some(found) = data_dir_of(source)? else {
        return Ok(());
    };
    let message = format!("{source} is a data directory, not a snapshot");
    Err(Failure::new(Exit::Usage, message).next(format!(
        "of one that `rebuild --follow` has kept up and that nobody ran on, name the database, which is all of it: `lifeboat restore {} \
         --skip-hash-check`; a dead member's goes on with its log: `lifeboat rebuild {source} --from-data-dir`",
        found.database.display()
    )))
}
