//! A chain of which the full backup is gone: what is still there of it, and what can be done.

use std::collections::BTreeMap;

use super::point::windows;
use crate::catalog::{Following, Link};
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::{ChainPath, ObjectName, Span};
use crate::model::{ChainId, Revision};

/// What is there of a chain that no destination has the full backup of.
#[derive(Debug)]
pub struct Headless {
    /// The chain.
    pub chain: ChainPath,
    /// Its deltas, packs, marks and gaps.
    pub following: Following,
    /// The revisions that those hold.
    pub stretches: Vec<Span>,
    /// By destination, what lies in it.
    pub destinations: BTreeMap<String, Left>,
    /// Good backups of the same cluster with points among those revisions: the backup, and which.
    pub elsewhere: Vec<(ChainId, Span)>,
}

/// What one destination has of it.
#[derive(Debug, Default)]
pub struct Left {
    /// How many deltas and packs.
    pub objects: u64,
    /// How large they are.
    pub bytes: u64,
    /// The path of the full backup, where its bytes are there and only the manifest is not.
    pub without_manifest: Option<String>,
    /// Why it could not be listed.
    pub unlisted: Option<String>,
}

impl Headless {
    /// Lists what is there of `chain`.
    pub fn find(places: &Destinations, chain: &ChainPath) -> Headless {
        let (mut links, mut destinations) = (Vec::new(), BTreeMap::new());
        for (name, store) in &places.stores {
            let mut left = Left::default();
            let listed = store.list_whole_chain(chain);
            match listed.map(Link::listed) {
                Ok(found) => links.push((name.as_str(), found)),
                Err(error) => left.unlisted = Some(with_causes(&error)),
            }
            let mut incomplete = places.catalog.incomplete().iter();
            let is_here = incomplete.any(|left| left.destination == *name && left.chain == *chain);
            left.without_manifest = is_here.then(|| store.address_of(&ObjectName::Full(chain.clone())));
            destinations.insert(name.clone(), left);
        }
        let each = || {
            links
                .iter()
                .flat_map(|(name, links)| links.iter().map(|link| (*name, link)))
        };
        for (name, link) in each().filter(|(_, link)| link.name.span().is_some()) {
            if let Some(left) = destinations.get_mut(name) {
                left.objects += 1;
                left.bytes = left.bytes.saturating_add(link.bytes);
            }
        }
        // What the full backup was of nobody knows.
        let any = Revision::new(0).expect("it is not negative");
        let following = Following::of_links(any, each());
        let stretches = following.stretches();
        Headless {
            elsewhere: elsewhere(places, chain, &stretches),
            chain: chain.clone(),
            following,
            stretches,
            destinations,
        }
    }

    /// Why nothing of it can be restored.
    pub fn why(&self) -> String {
        let half: Vec<&str> = self
            .destinations
            .iter()
            .filter(|(_, left)| left.without_manifest.is_some())
            .map(|(name, _)| name.as_str())
            .collect();
        match half.is_empty() {
            true => format!(
                "full backup {} is in no destination that was read, and deltas are changes to it",
                self.chain.chain
            ),
            false => format!(
                "full backup {} has no manifest in {}: it was never completed, or is being removed",
                self.chain.chain,
                half.join(", ")
            ),
        }
    }

    /// What can be done.
    pub fn next(&self) -> String {
        let id = &self.chain.chain;
        let place = self.destinations.keys().next().map_or("DEST", String::as_str);
        let back = format!(
            "if another store has the full backup, bring it here: `lifeboat copy --from OTHER --to {place} {id}`, and all points are back"
        );
        match self.elsewhere.first() {
            Some((other, span)) => format!(
                "{back}; revisions {} to {} can be had of {other}",
                span.from(),
                span.to()
            ),
            None => {
                format!("{back}; without it what is listed here is of no use, and `lifeboat backup` begins a new chain")
            }
        }
    }
}

/// The good backups of the cluster that have points among these revisions.
fn elsewhere(places: &Destinations, chain: &ChainPath, stretches: &[Span]) -> Vec<(ChainId, Span)> {
    let known = windows(places).into_iter();
    let known = known.filter(|known| known.backup.manifest().cluster == chain.cluster);
    let mut found = Vec::new();
    for known in known {
        for stretch in stretches {
            let (from, to) = (known.window.from.max(stretch.from()), known.window.to.min(stretch.to()));
            if let Some(span) = Span::new(from, to).filter(|_| from <= to) {
                found.push((known.backup.id().clone(), span));
            }
        }
    }
    found
}
