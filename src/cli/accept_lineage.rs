//! `lifeboat accept-lineage`: the operator's word on which history is meant.

use serde::Serialize;

use super::host::{self, Places, chain};
use super::output::Format;
use super::{Context, Exit, Failure};
use crate::catalog::{Catalog, LatestError, Lineage};
use crate::model::LineageId;

/// Say that a new history is meant: an etcd that was restored or started afresh
///
/// An etcd that lost its data comes back empty under the same ids. Its backups open a new lineage, and `latest` refuses
/// to choose until this command has said which lineage goes on. Nothing is removed.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  lifeboat accept-lineage                              # the new one\n  \
    lifeboat accept-lineage cdf818194e3a8c32-9f3c4a1b    # as `lifeboat list` prints it"
)]
pub struct Args {
    /// The lineage that is meant, or a unique part of its id; without it the new one, if there is only one and it is
    /// not empty
    #[arg(value_name = "LINEAGE")]
    lineage: Option<String>,
    /// Words to keep with it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    accepted: LineageId,
    changed: bool,
    destinations: Vec<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let config = host::configuration(context)?;
    let places = Places::configured(context, &config, None)?;
    if let Some((name, error)) = places.unreadable.first() {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}"))
            .next("the word must reach every destination; make it readable, or switch it off with `enabled = false`"));
    }
    let catalog = &places.catalog;
    let lineage = meant(catalog, args.lineage)?;
    let changed = !catalog
        .accepted_lineage()
        .is_ok_and(|accepted| accepted.id == lineage.id);
    let mut destinations = Vec::new();
    if changed {
        let (object, word) = catalog
            .accept(&lineage.id, host::now(), &host::host_name(), args.note)
            .map_err(|error| Failure::new(Exit::NotFound, &error).next("`lifeboat list` shows the lineages"))?;
        let bytes = word.to_bytes();
        for (name, store) in &places.stores {
            store.put_new(&object, &bytes).map_err(|error| {
                Failure::new(Exit::Partly, format!("destination {name}: {}", chain(&error)))
                    .next("say it again when the destination is well: until then it may contradict the others")
            })?;
            destinations.push(name.clone());
        }
    }
    match context.output.format {
        Format::Json => context.output.json(&Document {
            schema: 1,
            accepted: lineage.id,
            changed,
            destinations,
        }),
        Format::Text if changed => context.output.line(format!("accepted lineage {lineage}")),
        Format::Text => context
            .output
            .line(format!("lineage {lineage} is the accepted one already")),
    }
    Ok(Exit::Done)
}

fn meant(catalog: &Catalog, asked_for: Option<String>) -> Result<Lineage, Failure> {
    let lineages = catalog.lineages();
    if lineages.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there is no backup").next("take one with `lifeboat backup`"));
    }
    let Some(part) = asked_for else {
        return the_new_one(catalog, &lineages);
    };
    let mut found = lineages.iter().filter(|lineage| lineage.id.to_string().contains(&part));
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => {
            Err(Failure::new(Exit::Usage, format!("`{part}` is part of several lineages")).next(choice(&lineages)))
        }
        (None, _) => {
            Err(Failure::new(Exit::NotFound, format!("there is no backup of lineage `{part}`")).next(choice(&lineages)))
        }
    }
}

/// The only lineage that has not been judged; one without keys is accepted by its name only.
fn the_new_one(catalog: &Catalog, lineages: &[Lineage]) -> Result<Lineage, Failure> {
    let new = match catalog.accepted_lineage() {
        Ok(accepted) => return Ok(accepted),
        Err(LatestError::Unaccepted { accepted, .. }) => {
            let before = accepted.or_else(|| lineages.first().map(|first| first.id.clone()));
            lineages
                .iter()
                .filter(|lineage| Some(&lineage.id) != before.as_ref())
                .collect::<Vec<_>>()
        }
        Err(_) => Vec::new(),
    };
    let [new] = new.as_slice() else {
        return Err(Failure::new(Exit::Refused, "it is not clear which lineage is meant").next(choice(lineages)));
    };
    let newest = catalog.backups().iter().find(|backup| *backup.id() == new.newest);
    match newest.and_then(|backup| backup.manifest().keys) {
        Some(0) => Err(Failure::new(
            Exit::Refused,
            format!("the new lineage {} is empty: it has no keys", new.id),
        )
        .next(choice(lineages))),
        Some(_) | None => Ok((*new).clone()),
    }
}

fn choice(lineages: &[Lineage]) -> String {
    let commands = lineages.iter().map(|lineage| {
        format!(
            "\n    lifeboat accept-lineage {}   # up to revision {}",
            lineage.id, lineage.highest
        )
    });
    format!("say which:{}", commands.collect::<String>())
}
