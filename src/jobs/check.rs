//! Whether the configuration is right, and everything it names answers.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use tokio::runtime::Handle;

use super::bandwidth::too_narrow;
use super::choice::{chosen, no_latest};
use super::probe::{StoreRow, try_destinations};
use super::read_through::read_through;
use super::restore::foreseen;
use super::source::{outlined, recipients as recipients_of};
use super::stores::read_configured;
use super::unit_access::Judgement;
use super::{
    Exit, Failure, Listener, adopt, clock, configuration, failed, host, identities, recipients, signing, witness,
};
use crate::backup;
use crate::catalog::{Backup, LatestError};
use crate::config::{self, Config, OnFailure};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::etcd::{self, Ahead, Listed, Member, Surveyed, complaints, survey};
use crate::pipeline::{Identities, Recipient, try_sealing};
use crate::text::{count, rfc3339};

/// When a certificate's end is told beforehand.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What is to be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Where the configuration is.
    pub configuration: &'a Path,
    /// Whether members and destinations are reached.
    pub online: bool,
    /// The files with the keys that are tried on the newest backup.
    pub key_files: &'a [PathBuf],
    /// Whether the present recipients are accepted.
    pub accept_recipients: bool,
    /// The destination whose store gets its marker again.
    pub adopt_store: Option<&'a str>,
    /// The destination that is meant to show less than this host has seen in it.
    pub accept_rollback: Option<&'a str>,
    /// The list of signers that every destination gets.
    pub publish_signers: Option<&'a Path>,
}

/// What came of it.
#[derive(Debug)]
pub struct Checked {
    /// What was found.
    pub findings: Findings,
    /// The members, where they were asked.
    pub members: Vec<MemberRow>,
    /// What the destinations enforce, where they were asked.
    pub stores: Vec<StoreRow>,
    /// What stands between the configuration and the agent's unit.
    pub sandbox: Judgement,
    /// How the check ends.
    pub exit: Exit,
}

/// What was found, one line each.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// What is wrong.
    pub problems: Vec<String>,
    /// What may be.
    pub warnings: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

impl Findings {
    /// Takes in how the recipients differ from those that are meant.
    fn take_recipients(&mut self, changed: Result<Option<String>, String>) {
        match changed {
            Ok(changed) => self.warnings.extend(changed),
            Err(error) => self.warnings.push(recipients::not_known(&error)),
        }
    }

    /// Takes in how one check ended: what it could not do is a problem among the others, and its exit code counts unless
    /// another came first.
    fn end_of(&mut self, ended: Result<(), Failure>, so_far: Exit) -> Exit {
        let Err(failure) = ended else { return so_far };
        self.problems.push(failure.to_string());
        match so_far {
            Exit::Done | Exit::Failed => failure.exit,
            first => first,
        }
    }
}

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

/// Looks at everything that is asked for.
pub fn check(asked: &Asked<'_>, listener: &dyn Listener, runtime: &Handle) -> Result<Checked, Failure> {
    let loaded = config::load(asked.configuration).map_err(configuration::invalid)?;
    let config = loaded.config;
    let mut findings = Findings::default();
    findings
        .warnings
        .extend(loaded.warnings.iter().map(ToString::to_string));
    let secrets = config.check_secrets();
    findings
        .problems
        .extend(secrets.problems.iter().map(|unread| unread.problem.to_string()));
    findings
        .warnings
        .extend(secrets.warnings.iter().map(ToString::to_string));
    let files = loaded.files.iter().map(|file| file.display().to_string());
    findings
        .notes
        .push(format!("read {}", files.collect::<Vec<_>>().join(", ")));
    if config.has_sample_recipient() {
        findings
            .problems
            .push("the recipient is the sample's: `backup` refuses, as nobody could open what it makes".to_owned());
    }
    if let (config::MemberChoice::Local, Ok(host)) = (&config.backup.member, host::this_host()) {
        let local = config.local_member(&host);
        match local.name() {
            Some(_) => findings.notes.push(local.to_string()),
            None => findings.problems.push(local.to_string()),
        }
    }
    findings.warnings.extend(without_retention(&config));
    findings.warnings.extend(with_client_certificate(&config, host::now()));
    findings
        .warnings
        .extend(without_program(config.notify.on_failure.as_ref()));
    let mut exit = match findings.problems.is_empty() {
        true => Exit::Done,
        false => Exit::Configuration,
    };
    findings.warnings.extend(
        foreseen(runtime, &config).map(|refused| format!("a restore on this host would be refused: {refused}")),
    );
    let sandbox = Judgement::of(runtime, &config, &loaded.files);
    findings.notes.extend(sandbox.notes());
    let is_configured = exit == Exit::Done;
    if sandbox.is_of_this_host() {
        let before = findings.problems.len();
        findings.problems.extend(sandbox.unmet());
        if is_configured && findings.problems.len() > before {
            exit = Exit::Failed;
        }
    } else {
        findings.warnings.extend(sandbox.unmet());
    }
    let accepts = asked.accept_recipients && is_configured;
    if !accepts && let Ok(state) = host::state_to_read(&config.cluster.name) {
        findings.take_recipients(recipients::changed(&config, &state, None));
    }
    if let Ok(state) = host::state_to_read(&config.cluster.name) {
        let set_back = clock::notice(&state, host::now());
        findings.warnings.extend(set_back.map(|notice| notice.message));
    }
    let (mut members, mut stores) = (Vec::new(), Vec::new());
    let unsealed = plugins_fail(&config);
    if is_configured && !unsealed.is_empty() {
        exit = Exit::Failed;
    }
    findings.problems.extend(unsealed);
    // While this is still who can read the key.
    if let Some(keys) = identities::of_files(asked.key_files, Some(&config)).transpose() {
        let tried = keys.and_then(|keys| try_identity(listener, &config, asked.key_files, keys, &mut findings));
        exit = findings.end_of(tried, exit);
    }
    if asked.online && is_configured {
        members = runtime.block_on(ask_members(&config, &mut findings));
    }
    if let Some(file) = asked.publish_signers.filter(|_| is_configured) {
        let published = signing::publish(&config, file);
        let ended = published.and_then(|(notes, ended)| {
            findings.notes.extend(notes);
            ended
        });
        exit = findings.end_of(ended, exit);
    }
    if let Some(name) = asked.adopt_store.filter(|_| is_configured) {
        let adopted = host::settle().and_then(|()| adopt::adopt(&config, name));
        let ended = adopted.map(|note| findings.notes.push(note));
        exit = findings.end_of(ended, exit);
    }
    if let Some(name) = asked.accept_rollback.filter(|_| is_configured) {
        let accepted = host::settle().and_then(|()| witness::accept(&config, name));
        let ended = accepted.map(|note| findings.notes.push(note));
        exit = findings.end_of(ended, exit);
    }
    if asked.online && is_configured {
        let tried = host::settle().and_then(|()| try_destinations(&config, &mut findings));
        exit = findings.end_of(tried.map(|tried| stores = tried), exit);
        let judged = judge_backups(listener, &config, &mut findings);
        exit = findings.end_of(judged, exit);
        if exit == Exit::Done && !findings.problems.is_empty() {
            exit = Exit::Failed;
        }
    }
    // Last: it ends being root, who alone may be able to read the keys.
    if accepts {
        let accepted = accept_recipients(&config, &mut findings);
        exit = findings.end_of(accepted, exit);
    }
    Ok(Checked {
        findings,
        members,
        stores,
        sandbox,
        exit,
    })
}

fn without_retention(config: &Config) -> impl Iterator<Item = String> {
    let destinations = config.destinations.iter();
    let endless = destinations.filter(|(_, destination)| destination.retention.is_none());
    endless.map(|(name, _)| {
        format!(
            "destination {name} has no retention, so nothing is ever removed: set `[destinations.{name}.retention]`"
        )
    })
}

/// What is wrong with the certificate that members are shown, or will soon be.
fn with_client_certificate(config: &Config, now: Timestamp) -> Option<String> {
    let (certificate, _) = host::tls(config).ok()?.identity?;
    let until = etcd::Certificate::of_pem(&certificate)?.not_after;
    let left = until.duration_since(now);
    if left.is_negative() {
        return Some(format!("`cluster.tls.cert` expired on {}", rfc3339(until)));
    }
    (left < EXPIRES_SOON).then(|| {
        format!(
            "`cluster.tls.cert` expires in {}, on {}",
            count(left.as_hours().unsigned_abs().div_ceil(24), "day"),
            rfc3339(until)
        )
    })
}

/// The program to run when something happens, if it cannot be run: nobody would hear of anything.
fn without_program(on_failure: Option<&OnFailure>) -> Option<String> {
    let program = &on_failure?.path;
    let is_program = |found: &std::fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    let why = match std::fs::metadata(program) {
        Ok(found) if is_program(&found) => return None,
        Ok(_) => "it is not a program".to_owned(),
        Err(error) => error.to_string(),
    };
    Some(format!(
        "`notify.on_failure` cannot be run: {}: {why}",
        program.display()
    ))
}

/// What keeps recipients that need a plugin from being encrypted to, as tried.
fn plugins_fail(config: &Config) -> Vec<String> {
    let recipients = &config.encryption.recipients;
    if !recipients.iter().any(Recipient::needs_plugin) {
        return Vec::new();
    }
    let faults = recipients.iter().filter_map(Recipient::plugin_fault);
    let mut faults: Vec<String> = faults
        .map(|fault| format!("`encryption.recipients`: {fault}"))
        .collect();
    if faults.is_empty()
        && let Err(why) = try_sealing(recipients)
    {
        faults.push(format!("`encryption.recipients`: {why}"));
    }
    faults.dedup();
    faults
}

async fn ask_members(config: &Config, findings: &mut Findings) -> Vec<MemberRow> {
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
        let configured = configured.join(", ");
        findings.problems.push(format!(
            "`members.{name}.peer_urls` is {configured}, the cluster knows it at {known}"
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

/// What a restore would find right now.
fn judge_backups(listener: &dyn Listener, config: &Config, findings: &mut Findings) -> Result<(), Failure> {
    let places = read_configured(listener, config, None)?;
    findings.problems.extend(
        places
            .catalog
            .damaged()
            .iter()
            .map(|damaged| format!("{damaged}: {}", damaged.fault)),
    );
    for backup in places.catalog.backups() {
        let id = backup.id();
        findings.problems.extend(
            backup
                .faults()
                .into_iter()
                .map(|fault| format!("{id} has a bad copy in {fault}")),
        );
    }
    let state = host::state_to_read(&config.cluster.name)?;
    for notice in witness::notices(&places) {
        findings.problems.push(notice.message);
    }
    findings.warnings.extend(witness::new_signers(&state, &places));
    let narrow = too_narrow(config, &places.catalog, host::now());
    findings.warnings.extend(narrow);
    match places.catalog.latest() {
        Ok(latest) => findings.notes.push(format!("latest: {}", outlined(latest))),
        // There were some, which is told.
        Err(LatestError::Empty) if !places.rolled_back.is_empty() => {}
        Err(LatestError::Empty) => findings.warnings.push("there is no backup yet".to_owned()),
        Err(error) => findings
            .problems
            .push(format!("`latest` is refused: {}", no_latest(&error))),
    }
    Ok(())
}

/// Remembers that the present recipients are meant.
fn accept_recipients(config: &Config, findings: &mut Findings) -> Result<(), Failure> {
    host::settle()?;
    let (state, present) = (host::state(&config.cluster.name)?, recipients::present(config));
    state.accept_recipients(&present).map_err(failed)?;
    let present = present.join(", ");
    findings
        .notes
        .push(format!("backups are encrypted to {present}: accepted on this host"));
    Ok(())
}

fn try_identity(
    listener: &dyn Listener,
    config: &Config,
    given: &[PathBuf],
    keys: Identities,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let places = read_configured(listener, config, None)?;
    let latest = chosen(listener, &places, "latest")?;
    for (destination, newest) in newest_of_each(config, &places) {
        let (manifest, _) = places.manifest(newest).map_err(failed)?;
        findings.notes.push(format!(
            "destination {destination}: the newest backup {} is encrypted to {}",
            newest.id(),
            recipients_of(&manifest)
        ));
    }
    let given: Vec<_> = given.iter().map(|file| file.display().to_string()).collect();
    let given = given.join(", ");
    let opens = keys.open_what_is_made_for(&config.encryption.recipients);
    read_through(listener, latest, &places, keys)?;
    findings.notes.push(format!(
        "{given} opens {}; all of it was read and is right",
        outlined(latest)
    ));
    if !opens {
        findings.warnings.push(format!(
            "{given} does not open new backups: they are encrypted to {}",
            recipients::present(config).join(", ")
        ));
    }
    Ok(())
}

/// The newest backup in each destination that has one.
fn newest_of_each<'a>(config: &'a Config, places: &'a Destinations) -> impl Iterator<Item = (&'a str, &'a Backup)> {
    config.destinations.keys().filter_map(|name| {
        let is_here = |backup: &&Backup| backup.copies.iter().any(|copy| copy.destination == name.as_str());
        let newest = places.catalog.backups().iter().filter(is_here);
        let newest = newest.max_by_key(|backup| (backup.manifest().first_byte_at, backup.id()))?;
        Some((name.as_str(), newest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_run_is_told_before_it_is_needed() {
        let told = |path: &str| {
            let path = path.into();
            let arguments = Vec::new();
            without_program(Some(&OnFailure { path, arguments }))
        };
        assert_eq!(told("/bin/sh"), None);
        for path in ["/no/such/program", "/etc/passwd", "/etc"] {
            assert!(told(path).unwrap().contains(path), "{path}");
        }
    }

    #[test]
    fn a_check_that_fails_is_one_more_finding_and_gives_its_exit_code() {
        let mut findings = Findings::default();
        findings.problems.push("member m1 does not answer".to_owned());
        let wrong_key = || Err(Failure::new(Exit::WrongKey, "none of them opens it").next("give another"));
        assert_eq!(findings.end_of(wrong_key(), Exit::Failed), Exit::WrongKey);
        assert_eq!(findings.end_of(wrong_key(), Exit::Configuration), Exit::Configuration);
        assert_eq!(findings.end_of(Ok(()), Exit::Failed), Exit::Failed);
        let opens = "none of them opens it\n  next: give another";
        assert_eq!(findings.problems, ["member m1 does not answer", opens, opens]);
    }
}
