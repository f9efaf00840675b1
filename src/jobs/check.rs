//! Whether the configuration is right, and everything it names answers.

mod members;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use members::MemberRow;
use tokio::runtime::Handle;

use super::bandwidth::too_narrow;
use super::named_backup::{chosen, no_latest};
use super::probe_destinations::{StoreRow, try_destinations};
use super::prove_identity::read_through;
use super::restore::{data_dir, foreseen};
use super::source::{outlined, recipients as recipients_of};
use super::stores::read_configured;
use super::unit_access::Judgement;
use super::{
    Exit, Failure, Listener, adopt_store, clock_set_back, configuration, failed, host, identities, last_seen,
    recipients, signing,
};
use crate::catalog::{Backup, LatestError};
use crate::config::{self, Config, OnFailure, StoreUrl};
use crate::destinations::Destinations;
use crate::etcd;
use crate::pipeline::{Identities, Recipient, Unopened, try_sealing};
use crate::store;
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
    if let Ok(host) = host::this_host() {
        let local = config.local_member(&host);
        match (local.name(), &config.backup.member) {
            (Some(_), _) => findings.notes.push(local.to_string()),
            (None, config::MemberChoice::Local) => findings.problems.push(local.to_string()),
            (None, _) => findings.notes.push(format!("{local}; set it if etcd runs here")),
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
    findings
        .warnings
        .extend(data_dir(runtime, &config).and_then(|data_dir| all_beside(&config, &data_dir)));
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
        let set_back = clock_set_back::notice(&state, host::now());
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
        members = runtime.block_on(members::ask(&config, &mut findings));
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
        let adopted = host::settle().and_then(|()| adopt_store::adopt(&config, name));
        let ended = adopted.map(|note| findings.notes.push(note));
        exit = findings.end_of(ended, exit);
    }
    if let Some(name) = asked.accept_rollback.filter(|_| is_configured) {
        let accepted = host::settle().and_then(|()| last_seen::accept(&config, name));
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

/// That every destination lies on the file system that etcd's data is on. What cannot be looked at lies elsewhere.
fn all_beside(config: &Config, data_dir: &Path) -> Option<String> {
    let device = |path: &Path| {
        let own = path.to_owned();
        let found = store::asked(path, move || std::fs::metadata(own).ok());
        found.ok().flatten().map(|found| found.dev())
    };
    let of_etcd = device(data_dir)?;
    let is_beside = |destination: &config::Destination| match &destination.url {
        StoreUrl::File(root) => device(root) == Some(of_etcd),
        StoreUrl::Bucket { .. } | StoreUrl::Server { .. } => false,
    };
    let is_so = !config.destinations.is_empty() && config.destinations.values().all(is_beside);
    is_so.then(|| {
        format!(
            "all backups lie on the file system of etcd's data ({}): what destroys that disk takes both; add a destination \
             elsewhere",
            data_dir.display()
        )
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
    for notice in last_seen::notices(&places) {
        findings.problems.push(notice.message);
    }
    findings.warnings.extend(last_seen::new_signers(&state, &places));
    let narrow = too_narrow(config, &places.catalog, host::now());
    findings.warnings.extend(narrow);
    match places.catalog.latest() {
        Ok(latest) => findings.notes.push(format!("latest: {}", outlined(latest))),
        // There were some, which is told.
        Err(LatestError::Empty) if !places.rolled_back.is_empty() => {}
        // There may be some in what cannot be read, which is told too.
        Err(LatestError::Empty) if !places.unreadable.is_empty() => {}
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
    host::tell_agent(&state, "check");
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
    findings.warnings.extend(match opens {
        Ok(()) => None,
        Err(Unopened::OfOthers) => Some(format!(
            "{given} does not open new backups: they are encrypted to {}",
            recipients::present(config).join(", ")
        )),
        Err(Unopened::Untried(why)) => Some(format!("whether {given} opens new backups is not known: {why}")),
    });
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
    fn backups_on_etcds_own_disk_alone_are_doubted() {
        let here = tempfile::tempdir().unwrap();
        let (path, data_dir) = (here.path().join("config.toml"), here.path().join("etcd"));
        std::fs::create_dir(&data_dir).unwrap();
        let told = |destinations: &str| {
            let key = "age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m";
            let text = format!(
                "[cluster]\nname = 'prod'\n[members.m1]\nclient_urls = ['http://127.0.0.1:1']\n\
                 [encryption]\nrecipients = ['{key}']\n{destinations}"
            );
            std::fs::write(&path, text).unwrap();
            all_beside(&config::load(&path).unwrap().config, &data_dir)
        };
        let beside = format!("[destinations.a]\nurl = 'file://{}'\n", here.path().display());
        assert!(told(&beside).is_some_and(|told| told.contains("add a destination elsewhere")));
        // Another one lies elsewhere, or nobody can tell.
        assert_eq!(told(&format!("{beside}[destinations.b]\nurl = 'file:///proc'\n")), None);
        assert_eq!(told(&format!("{beside}[destinations.b]\nurl = 's3://bucket'\n")), None);
        assert_eq!(told("[destinations.a]\nurl = 'file:///no/such/folder'\n"), None);
        assert_eq!(told(""), None);
    }

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
