//! `lifeboat check`: is the configuration right, and does everything it names answer?

use std::path::{Path, PathBuf};

use super::arguments::IdentityArgs;
use super::{Context, DEFAULT_CONFIG, Exit, Failure};
use crate::jobs::check::{Asked, Checked, MemberRow, check};
use crate::jobs::probe_destinations::StoreRow;
use crate::jobs::unit_access::{Judgement, UNIT};
use crate::json;
use crate::model::ByteSize;
use crate::store::{Answer, OfKind};
use crate::terminal::{Format, Output, Style, Table};
use crate::text::count;

/// Validate the configuration, and with --online everything it names
///
/// Offline: every file, key and secret. Online: reaches every member, compares names and ids with what the cluster
/// lists, writes a canary to every destination and reads it back, and says what each store enforces. With an identity: proves that it opens the newest
/// backup, and says who else can. Recipients that differ from those of the backups before are warned of, until they are
/// accepted.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat check\n  lifeboat check --online\n  lifeboat check --identity backup-key.txt\n  \
    lifeboat check --accept-recipients\n  lifeboat check --adopt-store far"
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
    /// Confirm that a store which has lost its store.json is the right one: writes that file again, if all that lies there
    /// can be read
    #[arg(long, value_name = "DESTINATION")]
    adopt_store: Option<String>,
    /// Confirm that a destination is meant to show less than this host has seen in it; until then it is called rolled back
    #[arg(long, value_name = "DESTINATION")]
    accept_rollback: Option<String>,
    /// Write this list of signers to every destination (`lifeboat keygen --sign-signers` makes one)
    #[arg(long, value_name = "FILE")]
    publish_signers: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let asked = Asked {
        configuration: &context.config,
        online: args.online,
        key_files: args.identity.files(),
        accept_recipients: args.accept_recipients,
        adopt_store: args.adopt_store.as_deref(),
        accept_rollback: args.accept_rollback.as_deref(),
        publish_signers: args.publish_signers.as_deref(),
    };
    let checked = check(&asked, &context.output, context.runtime.handle())?;
    match context.output.format {
        Format::Json => context.output.json(&json::check::Document::of(&checked)),
        Format::Text => {
            print_members(&context.output, &checked.members);
            print_stores(&context.output, &checked.stores);
            print(&context.output, &checked, &context.config);
        }
    }
    Ok(checked.exit)
}

fn print_members(output: &Output, members: &[MemberRow]) {
    if !members.is_empty() {
        let table = Table::new(&["MEMBER", "ENDPOINT", "ID", "ROLE", "ETCD", ">DATABASE"]);
        let table = table.without_blank(&["ID", "ETCD", "DATABASE"]);
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
}

fn print_stores(output: &Output, stores: &[StoreRow]) {
    if stores.is_empty() {
        return;
    }
    let table = Table::new(&[
        "DESTINATION",
        "NEW ONLY",
        "IN PARTS",
        "CHECKSUMS",
        "LOCK",
        "VERSIONS",
        "REMOVES",
        "UPLOADS",
    ]);
    // What no destination here can have is of no interest.
    let table = table.without_blank(&["IN PARTS", "CHECKSUMS", "LOCK", "VERSIONS", "UPLOADS"]);
    let mut table = table.may_go(&["VERSIONS", "UPLOADS"]);
    for StoreRow { name, enforces } in stores {
        let checksums = match &enforces.kind.checksums {
            None if enforces.kind == OfKind::NOTHING => Answer::None.word().to_owned(),
            None => Answer::Unknown.word().to_owned(),
            Some(none) if none.is_empty() => Answer::No.word().to_owned(),
            Some(some) => some.join(" "),
        };
        let mut row = vec![name.clone()];
        row.extend([enforces.new_only, enforces.parts_new_only].map(|answer| answer.word().to_owned()));
        row.push(checksums);
        let others = [
            enforces.kind.object_lock,
            enforces.kind.versioning,
            enforces.removes,
            enforces.lists_uploads,
        ];
        row.extend(others.map(|answer| answer.word().to_owned()));
        table.row(row);
    }
    output.table(&table);
}

fn print(output: &Output, checked: &Checked, config: &Path) {
    let Checked {
        findings,
        sandbox,
        exit,
        ..
    } = checked;
    findings.notes.iter().for_each(|note| output.sentence(note));
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
        output.sentence(remark);
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
