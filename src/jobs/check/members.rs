//! The members that the configuration names: whether they answer, and are what it says.

use std::time::Duration;

use serde::Serialize;

use super::super::host;
use super::Findings;
use crate::backup;
use crate::config::Config;
use crate::error_chain::with_causes;
use crate::etcd::{self, Ahead, Listed, Member, Surveyed, complaints, survey};

/// A member, as it answers.
#[derive(Debug, Serialize)]
pub struct MemberRow {
    /// Its name in the configuration.
    pub name: String,
    /// Where it was asked.
    pub url: String,
    /// Its id, if it answers.
    pub id: Option<String>,
    /// Its release of etcd.
    pub version: Option<String>,
    /// What it is in the cluster, or that it does not answer.
    pub role: &'static str,
    /// The size of its database.
    pub database_bytes: Option<u64>,
}

/// Asks them all, and compares what they say with the configuration.
pub(super) async fn ask(config: &Config, findings: &mut Findings) -> Vec<MemberRow> {
    let access = match host::access(config) {
        Ok(access) => access,
        Err(failure) => {
            findings.problems.push(failure.to_string());
            return Vec::new();
        }
    };
    let mut surveyed = survey(&host::endpoints(config), &access, Ahead::Far).await;
    let mut listed = None;
    let is_voter = |member: &Surveyed| member.candidate.answer.as_ref().is_ok_and(|status| !status.learner);
    let has_voter = surveyed.iter().any(is_voter);
    for member in &mut surveyed {
        // A learner neither lists members nor is it asked for backups while there are others.
        let is_asked = is_voter(member) || !has_voter;
        if let Some(connection) = &mut member.connection
            && is_asked
            && listed.is_none()
        {
            match connection.members().await {
                Ok(members) => listed = Some(members),
                Err(error) if error.is_of_learner() => findings.warnings.push(format!(
                    "member {} is a learner and the only one that answers: it may lag behind, and lists no members",
                    member.candidate.name
                )),
                Err(error) => findings.problems.push(with_causes(&error)),
            }
            // What was asked so far needs no login; a snapshot does.
            if let Err(error) = first_bytes(connection, config.backup.idle_timeout).await {
                findings.problems.push(with_causes(&error));
            }
        }
    }
    findings
        .warnings
        .extend(complaints(surveyed.iter().map(|member| &member.candidate)));
    let mut clusters: Vec<String> = Vec::new();
    let mut v2_keys: Vec<&str> = Vec::new();
    for member in &surveyed {
        match &member.candidate.answer {
            Ok(status) => {
                clusters.push(status.cluster.to_string());
                if config.deltas.enabled && etcd::loses_deletions(&status.version) {
                    findings.warnings.push(format!(
                        "member {}: etcd {} may leave deletions out of a watch that it compacts meanwhile: capture takes a full \
                         backup where that can have been; upgrade to 3.4.36, 3.5.18 or later",
                        member.candidate.name, status.version
                    ));
                }
                if etcd::holds_v2_keys(&member.candidate.url, &access.tls, &status.version).await {
                    v2_keys.push(&*member.candidate.name);
                }
            }
            Err(error) => findings
                .problems
                .push(format!("member {}: {}", member.candidate.name, with_causes(error))),
        }
    }
    if let Some(name) = v2_keys.first() {
        findings.warnings.push(backup::v2_keys_are_missing(name));
    }
    clusters.sort();
    clusters.dedup();
    if clusters.len() > 1 {
        let clusters = clusters.join(", ");
        findings
            .problems
            .push(format!("the members are of different clusters: {clusters}"));
    }
    compare(config, &surveyed, &listed.unwrap_or_default(), findings);
    surveyed.iter().map(row).collect()
}

/// Begins a snapshot and breaks it off.
async fn first_bytes(member: &mut Member, idle: Duration) -> Result<(), etcd::Error> {
    member.snapshot(idle).await?.next().await.map(drop)
}

/// Compares the configured names with those that the cluster lists.
fn compare(config: &Config, surveyed: &[Surveyed], listed: &[Listed], findings: &mut Findings) {
    for member in surveyed {
        let Ok(status) = &member.candidate.answer else { continue };
        let name = &member.candidate.name;
        match listed.iter().find(|listed| listed.id == status.member) {
            Some(listed) if listed.name == *name => compare_urls(config, listed, findings),
            Some(listed) => findings.problems.push(format!(
                "`[members.{name}]`: {} is member `{}` of the cluster, not `{name}`: name the section after etcd's --name",
                member.candidate.url, listed.name
            )),
            None => {}
        }
    }
    for listed in listed {
        if !config.members.contains_key(listed.name.as_str()) {
            let name = if listed.name.is_empty() {
                listed.id.to_string()
            } else {
                listed.name.clone()
            };
            let urls = listed.client_urls.join(", ");
            findings.warnings.push(format!(
                "member {name} of the cluster is not configured (clients reach it at {urls})"
            ));
        }
    }
}

fn compare_urls(config: &Config, listed: &Listed, findings: &mut Findings) {
    let Some(member) = config.members.get(listed.name.as_str()) else {
        return;
    };
    let mut configured: Vec<String> = member.peer_urls.iter().map(ToString::to_string).collect();
    let mut known = listed.peer_urls.clone();
    configured.sort();
    known.sort();
    if configured != known {
        let (name, known) = (&listed.name, known.join(", "));
        let configured = match configured.is_empty() {
            true => "not set".to_owned(),
            false => configured.join(", "),
        };
        findings.problems.push(format!(
            "`members.{name}.peer_urls` is {configured}, and the cluster knows it at {known}: a restore needs it"
        ));
    }
}

fn row(member: &Surveyed) -> MemberRow {
    let status = member.candidate.answer.as_ref().ok();
    MemberRow {
        name: member.candidate.name.clone(),
        url: member.candidate.url.clone(),
        id: status.map(|status| status.member.to_string()),
        version: status.map(|status| status.version.clone()),
        role: status.map_or("no answer", |status| status.role()),
        database_bytes: status.map(|status| status.db_bytes),
    }
}
