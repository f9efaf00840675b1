//! `lifeboat verify`: reads stored backups back, opens them if it can, and writes down what it found.

use clap::ValueHint;

use super::arguments::{From, IdentityArgs};
use super::{Context, Exit, Failure, host};
use crate::jobs::signing;
use crate::jobs::source::source_failure;
use crate::jobs::stores::read_configured;
use crate::jobs::verify::{Depth, Results, Run, Wanted, Which, verify_each, worse};
use crate::json;
use crate::layout::Proof;
use crate::terminal::{Bar, Format, Output};
use crate::text::{clean, count};
use crate::verify::Share;

/// Read backups back from where they are stored and prove that they are good
///
/// Each copy is compared with what was stored. With an identity it is decrypted too, every page and entry of the database
/// is checked, and its HashKV is compared with what the member reported. The result is kept beside the backup: one that is
/// bad is no longer `latest`, and retention counts it for nothing. Exit code 5 if any is bad.
///
/// The deltas and packs that follow it are read too: every byte, and that no revision is missing. With an identity each is
/// decrypted, and each change must follow the one before it of its key. Of one that is bad it is said what can still be
/// restored; the backup itself is none the worse for it.
///
/// With --all or --sample what else is in the stores is named, too: objects that are missing, not ours, orphaned (a pin of a
/// backup that is gone) or unfinished (a backup that is being made, or did not end: a later one removes it).
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat verify --identity backup-key.txt\n  lifeboat verify --all\n  \
    lifeboat verify --sample 5%\n  lifeboat verify 20261120T101530Z --destination far"
)]
pub struct Args {
    /// The backup's ID, a unique beginning or the last 8 digits of it, or `latest` (the default)
    #[arg(value_name = "ID", conflicts_with_all = ["all", "sample"])]
    id: Option<String>,
    /// All backups
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// This share of the backups: the newest if it was never checked, then those that were read least recently
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    sample: Option<Share>,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Only what this destination has
    #[arg(long, value_name = "DEST", value_hint = ValueHint::Other, conflicts_with = "from")]
    destination: Option<String>,
    #[command(flatten)]
    pub(super) from: From,
}

fn percent(text: &str) -> Result<Share, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let share = number.parse().ok().and_then(Share::percent);
    share.ok_or_else(|| "give a number above 0 and up to 100".to_owned())
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let stop = super::interrupted_flag(context);
    let mut told = None;
    let (places, identities) = if args.from.is_given() {
        let identities = args
            .identity
            .or_configured(host::configuration(context).ok().as_ref())?;
        (args.from.read(context)?, identities)
    } else {
        let config = host::configuration(context)?;
        let identities = args.identity.or_configured(Some(&config))?;
        host::settle()?;
        let state = host::state(&config.cluster.name);
        match state.and_then(|state| signing::prepare(&config, &state).map(|()| state)) {
            Ok(state) => told = Some(state),
            // What is read is read all the same.
            Err(failure) => context.output.warn(failure.message()),
        }
        let places = read_configured(&context.output, &config, args.destination.as_deref())?;
        (places, identities)
    };
    let run = Run {
        identities,
        memory: host::spare_memory(),
        host: host::host_name(),
        stop: &stop,
        must_record: !args.from.is_given(),
        destinations: &places,
        explain: |error, manifest| source_failure(error, Some(manifest)),
    };
    let which = match (&args.id, args.all, args.sample) {
        (Some(id), ..) => Which::Named(id),
        (None, true, _) => Which::All,
        (None, false, Some(share)) => Which::Share(share),
        (None, false, None) => Which::Named("latest"),
    };
    let wanted = Wanted::of(which, &places, &context.output)?;
    let mut results = Results::default();
    if args.id.is_none() {
        results.damaged(&places, args.all);
    }
    if args.all || args.sample.is_some() {
        results.odd(&places);
    }
    let bar = Bar::new(&context.output, "verify");
    verify_each(&run, &wanted, |done, total| bar.share(done, total), &mut results);
    drop(bar);
    // What was found is kept beside the backups, and the agent judges by it.
    told.iter().for_each(|state| host::tell_agent(state, "verify"));
    match context.output.format {
        Format::Json => context.output.json(&json::verify::document(&results)),
        Format::Text => print(&context.output, &results, &run),
    }
    results.errors.iter().for_each(|error| context.output.problem(error));
    match results.stopped_before {
        0 => Ok(results.exit),
        left => Failure::new(
            worse(results.exit, Exit::Failed),
            format!(
                "stopped before {}; what was checked is kept",
                count(left as u64, "backup")
            ),
        )
        .after_result(&context.output),
    }
}

/// What is said where there is no key.
const NOT_LOOKED_AT: &str = "not looked at: the structure of the databases, HashKV, and the records of deltas (that they decode, are \
     as many as their heads say, and follow each other): nothing was opened, as no identity was given; `--identity FILE` opens them";

/// What a proof says, in a few words.
fn meaning(proof: Proof) -> &'static str {
    match proof {
        Proof::None => "not proven",
        Proof::Acknowledged => "not read back, acknowledged by the store",
        Proof::Stored => "file intact (not decrypted)",
        Proof::Content => "decrypted, structure whole",
        Proof::HashKv => "decrypted, contents equal etcd's hash",
    }
}

fn print(output: &Output, results: &Results, run: &Run<'_>) {
    let (may_give_up, is_opened) = (run.must_record, run.identities.is_some());
    for checked in &results.checked {
        let id = &checked.id;
        for copy in &checked.destinations {
            let name = &copy.name;
            match copy.ok {
                true if copy.depth == Depth::Compared && copy.proof > Proof::Stored => output.sentence(format!(
                    "good  {id} in {name}: file intact (not decrypted); proven before: {}",
                    meaning(copy.proof).trim_start_matches("decrypted, ")
                )),
                true => output.sentence(format!("good  {id} in {name}: {}", meaning(copy.proof))),
                false => output.sentence(format!("BAD   {id} in {name}: {}", clean(&copy.faults.join("; ")))),
            }
        }
        for copy in &checked.destinations {
            let Some(deltas) = &copy.deltas else { continue };
            let name = &copy.name;
            if deltas.ok {
                output.sentence(format!("good  {id} in {name}, deltas: {}", deltas.good()));
            }
            for words in deltas.words() {
                output.sentence(format!("BAD   {id} in {name}, deltas: {}", clean(&words)));
            }
            if let Some(next) = &deltas.next {
                output.sentence(format!("      {next}"));
            }
        }
        // `prune` knows the configured stores alone.
        if checked.destinations.iter().any(|copy| !copy.ok) && may_give_up {
            output.sentence(format!("      to give it up: `lifeboat prune --damaged {id}`"));
        }
        if let Some(note) = &checked.note {
            output.sentence(format!("      {}", clean(note)));
        }
        for warning in &checked.warnings {
            output.sentence(format!("      warning: {}", clean(warning)));
        }
    }
    if !is_opened && !results.checked.is_empty() {
        output.sentence(NOT_LOOKED_AT);
    }
    for id in &results.gone {
        output.sentence(format!("gone  {id}: removed by retention since it was listed"));
    }
    for odd in results.objects.iter().flatten() {
        output.sentence(format!("{}: {} in {}", odd.oddity, clean(&odd.path), odd.destination));
    }
    if results.checked.is_empty() && results.gone.is_empty() && results.errors.is_empty() {
        output.sentence("there is no backup to verify");
    }
}
