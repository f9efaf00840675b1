//! `lifeboat check`: is the configuration right, and does everything it names answer?

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::arguments::IdentityArgs;
use super::{Context, DEFAULT_CONFIG, Exit, Failure, host};
use crate::backup;
use crate::catalog::{Backup, LatestError};
use crate::config::{self, Config, OnFailure};
use crate::destinations::{Destination, Destinations, side_by_side};
use crate::error_chain::with_causes;
use crate::etcd::{self, Ahead, Listed, Member, Surveyed, complaints, survey};
use crate::jobs::choice::{chosen, no_latest};
use crate::jobs::read_through::read_through;
use crate::jobs::restore::foreseen;
use crate::jobs::source::outlined;
use crate::jobs::source::recipients as recipients_of;
use crate::jobs::stores::{open_to_write, read_configured};
use crate::jobs::unit_access::{Judgement, UNIT};
use crate::jobs::{configuration, recipients};
use crate::model::ByteSize;
use crate::pipeline::Identities;
use crate::terminal::{Format, Output, Style, Table};
use crate::text::{count, rfc3339};

/// Validate the configuration, and with --online everything it names
///
/// Offline: every file, key and secret. Online: reaches every member, compares names and ids with what the cluster
/// lists, writes a canary to every destination and reads it back. With an identity: proves that it opens the newest
/// backup, and says who else can. Recipients that differ from those of the backups before are warned of, until they are
/// accepted.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat check\n  lifeboat check --online\n  lifeboat check --identity backup-key.txt\n  \
    lifeboat check --accept-recipients"
)]
pub struct Args {
    /// Reach every member and destination
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Confirm the present recipients; until then `check`, `backup` and the agent warn of changed ones
    #[arg(long)]
    accept_recipients: bool,
}

/// When a certificate's end is told beforehand.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What was found, one line each.
#[derive(Debug, Default, Serialize)]
struct Findings {
    problems: Vec<String>,
    warnings: Vec<String>,
    notes: Vec<String>,
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

#[derive(Serialize)]
struct Document {
    schema: u32,
    ok: bool,
    #[serde(flatten)]
    findings: Findings,
    members: Vec<MemberRow>,
    sandbox: Judgement,
}

#[derive(Serialize)]
struct MemberRow {
    name: String,
    url: String,
    id: Option<String>,
    version: Option<String>,
    role: &'static str,
    database_bytes: Option<u64>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let loaded = config::load(&context.config).map_err(configuration::invalid)?;
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
        foreseen(context.runtime.handle(), &config)
            .map(|refused| format!("a restore on this host would be refused: {refused}")),
    );
    let sandbox = Judgement::of(context.runtime.handle(), &config, &loaded.files);
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
    let accepts = args.accept_recipients && is_configured;
    if !accepts && let Ok(state) = host::state(&config.cluster.name) {
        findings.take_recipients(recipients::changed(&config, &state, None));
    }
    let mut members = Vec::new();
    // While this is still who can read the key.
    if let Some(keys) = args.identity.read().transpose() {
        let tried = keys.and_then(|keys| try_identity(context, &config, &args.identity, keys, &mut findings));
        exit = findings.end_of(tried, exit);
    }
    if args.online && is_configured {
        members = context.runtime.block_on(ask_members(&config, &mut findings));
        let tried = host::settle().and_then(|()| try_destinations(&config, &mut findings));
        exit = findings.end_of(tried, exit);
        let judged = judge_backups(context, &config, &mut findings);
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
    match context.output.format {
        Format::Json => context.output.json(&Document {
            schema: 1,
            ok: exit == Exit::Done,
            findings,
            members,
            sandbox,
        }),
        Format::Text => print(&context.output, &findings, &members, &sandbox, &context.config, exit),
    }
    Ok(exit)
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

fn try_destinations(config: &Config, findings: &mut Findings) -> Result<(), Failure> {
    if config.destinations.is_empty() {
        return Ok(());
    }
    let state = host::state(&config.cluster.name)?;
    let opened = open_to_write(config, &state, &[])?;
    // Side by side: those that hang cost one deadline.
    let tried = side_by_side(opened.into_iter(), |destination| {
        let tried = destination.store.as_ref().map_err(|error| with_causes(error))?;
        let tried = tried.try_canary(&host::host_name()).and_then(|()| tried.free_space());
        tried.map_err(|error| with_causes(&error))
    });
    for (Destination { name, .. }, tried) in tried {
        match tried {
            Ok(free) => findings.notes.push(format!(
                "destination {name}: a canary was written and read back, {} of {} free",
                ByteSize(free.available),
                ByteSize(free.total)
            )),
            Err(error) => findings.problems.push(format!("destination {name}: {error}")),
        }
    }
    Ok(())
}

/// What a restore would find right now.
fn judge_backups(context: &Context, config: &Config, findings: &mut Findings) -> Result<(), Failure> {
    let places = read_configured(&context.output, config, None)?;
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
    match places.catalog.latest() {
        Ok(latest) => findings.notes.push(format!("latest: {}", outlined(latest))),
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
    state.accept_recipients(&present).map_err(host::failed)?;
    let present = present.join(", ");
    findings
        .notes
        .push(format!("backups are encrypted to {present}: accepted on this host"));
    Ok(())
}

fn try_identity(
    context: &Context,
    config: &Config,
    given: &IdentityArgs,
    keys: Identities,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let places = read_configured(&context.output, config, None)?;
    let latest = chosen(&context.output, &places, "latest")?;
    for (destination, newest) in newest_of_each(config, &places) {
        let (manifest, _) = places.manifest(newest).map_err(host::failed)?;
        findings.notes.push(format!(
            "destination {destination}: the newest backup {} is encrypted to {}",
            newest.id(),
            recipients_of(&manifest)
        ));
    }
    let opens = keys.open_what_is_made_for(&config.encryption.recipients);
    read_through(&context.output, latest, &places, keys)?;
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

fn print(output: &Output, findings: &Findings, members: &[MemberRow], sandbox: &Judgement, config: &Path, exit: Exit) {
    if !members.is_empty() {
        let table = Table::new(&["MEMBER", "ENDPOINT", "ID", "ROLE", "ETCD", ">DATABASE"]);
        let mut table = table.may_go(&["ID", "DATABASE"]);
        for member in members {
            let size = member
                .database_bytes
                .map_or(String::new(), |bytes| ByteSize(bytes).to_string());
            table.row(vec![
                member.name.clone(),
                member.url.clone(),
                member.id.clone().unwrap_or_default(),
                member.role.to_owned(),
                member.version.clone().unwrap_or_default(),
                size,
            ]);
        }
        output.table(&table);
    }
    findings.notes.iter().for_each(|note| output.line(note));
    findings.warnings.iter().for_each(|warning| output.warn(warning));
    findings.problems.iter().for_each(|problem| output.problem(problem));
    print_remedy(output, sandbox, config);
    let problems = count(findings.problems.len() as u64, "problem");
    let warnings = count(findings.warnings.len() as u64, "warning");
    match (exit, findings.warnings.is_empty()) {
        (Exit::Done, true) => output.styled_line(Style::Good, "ok"),
        (Exit::Done, false) => output.styled_line(Style::Doubtful, format!("ok, with {warnings}")),
        (_, true) => output.styled_line(Style::Bad, problems),
        (_, false) => output.styled_line(Style::Bad, format!("{problems}, {warnings}")),
    }
}

/// What gives the agent access, as an operator types it.
fn print_remedy(output: &Output, access: &Judgement, config: &Path) {
    if !access.is_of_a_host_with_units() {
        return;
    }
    if let Some(drop_in) = &access.drop_in {
        output.line(format!("to give the agent access, write this to {}:", drop_in.path));
        output.line("");
        drop_in.text.lines().for_each(|line| output.line(format!("    {line}")));
        output.line("");
    }
    for change in &access.configuration {
        output.line(format!("and in the configuration: {change}"));
    }
    for command in &access.commands {
        output.line(format!("as root: {command}"));
    }
    for remark in &access.remarks {
        output.line(remark);
    }
    if access.drop_in.is_some() && config != Path::new(DEFAULT_CONFIG) {
        output.line(format!(
            "{UNIT} reads {DEFAULT_CONFIG}, unless its ExecStart= says otherwise: put {} there, or name it in a drop-in",
            config.display()
        ));
    }
    if access.drop_in.is_some() {
        output.line("then: systemctl daemon-reload");
        output.line("      systemctl restart lifeboat");
    }
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
