//! Kept backups are made anew for the present recipients, and the old ones go when the new ones are proven.
//!
//! Of each snapshot: it is made anew in one destination, copied as it is to the others that have it, read back and opened in
//! each; then the results, the pins, and only then the old one is removed there. Each step shows in the listing, so that
//! whatever a kill has left is taken up where it was by the next run, whichever host's that is.
//!
//! Invariant: an old copy is removed only where a new one was read back and equals one that was opened in this run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use tokio::runtime::Handle;

use super::choice::not_found;
use super::stores::blame;
use super::{Exit, Failure, Listener, failed, host};
use crate::catalog::{Backup, Pinned, Standing};
use crate::config::Config;
use crate::copy;
use crate::destinations::Destinations;
use crate::error_chain::with_causes;
use crate::layout::{ChainPath, HostName, Manifest, ObjectName, Pin, Proof, Writer};
use crate::model::{ChainId, Revision};
use crate::pipeline::{Encoding, Identities};
use crate::retention::removal_order;
use crate::rewrap::{self, STALL_LIMIT};
use crate::state::{self, Holder, State};
use crate::store::{self, Store};
use crate::verify::{self, Copy, Found, Stopped};

/// The largest pin document that is read.
const PIN_MAX: u64 = 64 << 10;

/// What is the same for all backups of a run.
pub struct Run<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// What the destinations hold.
    pub destinations: &'a Destinations,
    /// What opens the old ones and the new ones.
    pub identities: &'a Identities,
    /// What this host remembers.
    pub state: &'a State,
    /// Where the pipeline waits.
    pub runtime: &'a Handle,
    /// Raised when it is to stop.
    pub stop: &'a Arc<AtomicBool>,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
}

/// What came of it, as programs see it.
#[derive(Debug, Default, Serialize)]
pub struct Results {
    /// Of each snapshot of which something was to be done.
    pub rewrapped: Vec<Row>,
    /// How many were for the present recipients already.
    pub up_to_date: u64,
    /// Whether it is only said what would be done.
    pub dry_run: bool,
    /// What else could not be done.
    pub errors: Vec<String>,
    /// How many were left when it was asked to stop.
    #[serde(skip)]
    pub stopped_before: usize,
}

/// One snapshot.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The backup that was there before.
    pub old: ChainId,
    /// The one that takes its place; none where there is none yet.
    pub new: Option<ChainId>,
    /// The revision of both.
    pub revision: Revision,
    /// The destinations that have the new one, proven.
    pub destinations: Vec<String>,
    /// The destinations from which the old one is gone.
    pub removed: Vec<String>,
    /// What was not done, and why.
    pub errors: Vec<String>,
}

/// The backups of one snapshot: the one that leads, and the others.
#[derive(Debug, Clone)]
pub struct Snapshot<'a> {
    leader: &'a Backup,
    others: Vec<&'a Backup>,
}

/// A backup of which a good copy is proven here and there.
struct Made {
    manifest: Manifest,
    document: Vec<u8>,
    /// The destinations that have it, with how far it is known to be proven there.
    places: BTreeMap<String, Proof>,
}

/// Refuses keys that do not open what is made for the present recipients: nothing would prove the new ones.
pub fn refuse_unproven(config: &Config, identities: Option<Identities>) -> Result<Identities, Failure> {
    let Some(identities) = identities else {
        return Err(
            Failure::new(Exit::WrongKey, "no identity is given: the backups have to be opened").next(
                "`lifeboat rewrap --identity FILE`; give several where old and new backups are for different ones",
            ),
        );
    };
    match identities.open_what_is_made_for(&config.encryption.recipients) {
        true => Ok(identities),
        false => Err(Failure::new(
            Exit::Refused,
            "none of the given identities opens what is made for [encryption] recipients: nothing would prove the new \
             backups before the old ones go",
        )
        .next("give the identity of one of the recipients too: `--identity OLD --identity NEW`")),
    }
}

/// The snapshots that are meant, the one begun first at the head: of these backups, or all.
pub fn wanted<'a>(destinations: &'a Destinations, ids: &[String]) -> Result<Vec<Snapshot<'a>>, Failure> {
    let catalog = &destinations.catalog;
    let mut families: BTreeMap<ChainPath, Snapshot<'a>> = BTreeMap::new();
    let mut led: BTreeSet<ChainPath> = BTreeSet::new();
    for family in catalog.families() {
        let [leader, others @ ..] = family.as_slice() else {
            continue;
        };
        led.extend(others.iter().map(|other| other.manifest().chain_path()));
        let others = others.to_vec();
        families.insert(leader.manifest().chain_path(), Snapshot { leader, others });
    }
    let free = catalog.backups().iter().filter_map(|backup| {
        let path = backup.manifest().chain_path();
        match families.remove(&path) {
            Some(family) => Some(family),
            None if led.contains(&path) => None,
            None => Some(Snapshot {
                leader: backup,
                others: Vec::new(),
            }),
        }
    });
    let mut snapshots: Vec<Snapshot<'a>> = free.collect();
    if !ids.is_empty() {
        let found = ids.iter().map(|id| {
            let found = catalog.find(id);
            found.map_err(|error| blame(destinations, not_found(&error)))
        });
        let found = found.collect::<Result<Vec<&Backup>, Failure>>()?;
        let is_meant = |backup: &Backup| found.iter().any(|found| std::ptr::eq(*found, backup));
        snapshots.retain(|snapshot| snapshot.all().any(is_meant));
    }
    Ok(snapshots)
}

impl<'a> Snapshot<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Backup> {
        std::iter::once(self.leader).chain(self.others.iter().copied())
    }

    /// How many bytes are read for it, about.
    pub fn work(&self) -> u64 {
        let outline = self.leader.manifest();
        2 * outline.plain.bytes
    }

    /// The destinations that have any of it.
    fn places(&self) -> BTreeSet<&'a str> {
        self.all().flat_map(Backup::destinations).collect()
    }
}

/// Does it for one after the other; `each` hears of bytes that were read.
pub fn carry_out(
    run: &Run<'_>,
    listener: &dyn Listener,
    snapshots: &[Snapshot<'_>],
    each: &(dyn Fn(u64) + Sync),
    results: &mut Results,
) -> Result<(), Failure> {
    results.dry_run = run.dry_run;
    let present: BTreeSet<String> = run
        .config
        .encryption
        .recipients
        .iter()
        .map(ToString::to_string)
        .collect();
    let encoding = Encoding {
        level: run.config.compression.level,
        threads: run.config.compression.threads,
        recipients: run.config.encryption.recipients.clone(),
        stall_limit: STALL_LIMIT,
    };
    for (index, snapshot) in snapshots.iter().enumerate() {
        if run.stop.load(Ordering::Relaxed) {
            results.stopped_before = snapshots.len() - index;
            return Ok(());
        }
        let one = One {
            run,
            listener,
            snapshot,
            encoding: &encoding,
            each,
        };
        let leader = snapshot.leader;
        let (manifest, document) = match run.destinations.manifest(leader) {
            Ok(read) => read,
            Err(error) => {
                results.errors.push(format!("{}: {}", leader.id(), with_causes(&error)));
                continue;
            }
        };
        let is_present = manifest.recipients.iter().cloned().collect::<BTreeSet<_>>() == present;
        if is_present && snapshot.others.is_empty() {
            results.up_to_date += 1;
            continue;
        }
        let old = snapshot
            .others
            .first()
            .copied()
            .filter(|_| is_present)
            .unwrap_or(leader);
        let mut row = Row {
            old: old.id().clone(),
            new: is_present.then(|| leader.id().clone()),
            revision: leader.revision(),
            destinations: Vec::new(),
            removed: Vec::new(),
            errors: Vec::new(),
        };
        if run.dry_run {
            row.destinations = snapshot.places().into_iter().map(str::to_owned).collect();
        } else {
            match one.replace(manifest, document, is_present, &mut row) {
                Ok(()) => {}
                Err(End::Stopped) => {
                    results.stopped_before = snapshots.len() - index;
                    if row.new.is_some() {
                        results.rewrapped.push(row);
                    }
                    return Ok(());
                }
                Err(End::Failed(why)) => row.errors.push(why),
                Err(End::Fatal(failure)) => return Err(failure),
            }
        }
        results.rewrapped.push(row);
    }
    Ok(())
}

/// Why it does not go on with a snapshot.
enum End {
    Stopped,
    Failed(String),
    /// Nor with any other.
    Fatal(Failure),
}

/// One snapshot, and what is the same for all.
struct One<'a> {
    run: &'a Run<'a>,
    listener: &'a dyn Listener,
    snapshot: &'a Snapshot<'a>,
    encoding: &'a Encoding,
    each: &'a (dyn Fn(u64) + Sync),
}

impl One<'_> {
    /// Brings one that is for the present recipients wherever the snapshot is, and removes what it takes the place of.
    fn replace(&self, manifest: Manifest, document: Vec<u8>, is_present: bool, row: &mut Row) -> Result<(), End> {
        let leader = self.snapshot.leader;
        let mut made = match is_present {
            true => Made {
                places: good_places(leader),
                manifest,
                document,
            },
            false => self.make(&manifest)?,
        };
        row.new = Some(made.manifest.chain.clone());
        self.spread(&mut made, row)?;
        let proven = self.prove(&made, row)?;
        row.destinations = proven.iter().map(|name| (*name).to_owned()).collect();
        for backup in self.snapshot.all().filter(|backup| *backup.id() != made.manifest.chain) {
            // A removal that is cut off is finished by the next sweep, as of a run that is dead.
            let recorded = self
                .run
                .state
                .begin_chain(backup.id(), &Holder::this("rewrap", host::now()));
            let record = match recorded {
                Ok(record) => Some(record),
                Err(state::Error::AlreadyBegun { .. }) => None,
                Err(error) => return Err(End::Fatal(failed(error))),
            };
            let mut has_failed = false;
            for name in backup.destinations().filter(|name| proven.contains(name)) {
                let Some(store) = self.run.destinations.stores.get(name) else {
                    continue;
                };
                match self.give_place(backup, name, store, &made.manifest) {
                    Ok(()) => row
                        .removed
                        .extend((!row.removed.iter().any(|gone| gone == name)).then(|| name.to_owned())),
                    Err(error) => {
                        has_failed = true;
                        row.errors.push(format!(
                            "{} stays in destination {name} beside the new one: {}",
                            backup.id(),
                            with_causes(&error)
                        ));
                    }
                }
            }
            if let Some(record) = record.filter(|_| !has_failed) {
                // Should it fail, the next run finds nothing to sweep and forgets it then.
                record.finish().ok();
            }
        }
        Ok(())
    }

    /// Makes it anew in the first destination that lets it.
    fn make(&self, old: &Manifest) -> Result<Made, End> {
        let run = self.run;
        let leader = self.snapshot.leader;
        let sources = good_places(leader);
        if sources.is_empty() {
            return Err(End::Failed("no good copy of it is left".to_owned()));
        }
        let mut why = String::new();
        for name in sources.keys() {
            let Some(store) = run.destinations.stores.get(name) else {
                continue;
            };
            let random = getrandom::u32().map_err(|error| End::Fatal(failed(error)))?;
            let chain = ChainId::new(leader.id().started_at(), random);
            let now = host::now();
            let begun = run.state.begin_chain(&chain, &Holder::this("rewrap", now));
            let begun = begun.map_err(|error| End::Fatal(failed(error)))?;
            let job = rewrap::Job {
                old,
                from: store,
                to: store,
                chain,
                encoding: self.encoding,
                identities: run.identities,
                writer: Writer {
                    host: host::host_name().to_string(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    run: format!("{random:08x}"),
                },
                runtime: run.runtime,
                now: host::now,
                stop: run.stop,
            };
            match rewrap::make(&job, self.each) {
                Ok((manifest, document)) => {
                    // Should it fail, the next run finds nothing to sweep and forgets it then.
                    begun.finish().ok();
                    self.listener
                        .detail(&format!("{} is made anew as {} in {name}", old.chain, manifest.chain));
                    let places = [(name.clone(), Proof::Stored)].into();
                    return Ok(Made {
                        manifest,
                        document,
                        places,
                    });
                }
                Err(rewrap::Error::Stopped) => return Err(End::Stopped),
                Err(error) => why = format!("destination {name}: {}", with_causes(&error)),
            }
        }
        Err(End::Failed(why))
    }

    /// Copies the new one, as it is, to the other destinations that have the snapshot.
    fn spread(&self, made: &mut Made, row: &mut Row) -> Result<(), End> {
        let stores = &self.run.destinations.stores;
        let known: Vec<&Store> = made.places.keys().filter_map(|name| stores.get(name)).collect();
        for name in self.snapshot.places() {
            let Some(to) = stores.get(name).filter(|_| !made.places.contains_key(name)) else {
                continue;
            };
            let mut why = "no other destination has a good copy".to_owned();
            for from in &known {
                let job = copy::Job {
                    manifest: &made.manifest,
                    document: &made.document,
                    from,
                    to,
                    stop: self.run.stop.clone(),
                };
                match copy::copy(&job, &|_| (self.each)(0)) {
                    Ok(_) => {
                        made.places.insert(name.to_owned(), Proof::Stored);
                        break;
                    }
                    Err(copy::Error::Stopped) => return Err(End::Stopped),
                    Err(error) => why = with_causes(&error),
                }
            }
            if !made.places.contains_key(name) {
                row.errors.push(format!(
                    "destination {name} keeps the old one, it did not get the new one: {why}"
                ));
            }
        }
        Ok(())
    }

    /// Reads all copies back and opens one; writes down what was found. The destinations in which it is proven.
    fn prove<'m>(&self, made: &'m Made, row: &mut Row) -> Result<BTreeSet<&'m str>, End> {
        let stores = &self.run.destinations.stores;
        // The same bytes in plain: what was proven of one backup of the snapshot is true of all.
        let before = self.snapshot.all().map(Backup::proof).max().unwrap_or(Proof::Stored);
        let copies = made.places.keys().filter_map(|name| {
            Some(Copy {
                destination: name,
                store: stores.get(name)?,
                before,
            })
        });
        let copies: Vec<Copy<'_>> = copies.collect();
        let job = verify::Job {
            manifest: &made.manifest,
            copies: &copies,
            identities: Some(self.run.identities),
            memory: host::spare_memory(),
            stop: self.run.stop,
        };
        let verified = verify::verify(&job, |bytes| (self.each)(bytes / 2)).map_err(|Stopped| End::Stopped)?;
        if let Some(error) = &verified.unopened {
            return Err(End::Failed(format!(
                "the new one is not opened: {}",
                with_causes(error)
            )));
        }
        let is_opened = |found: &Found| matches!(found, Found::Good(proof) if *proof >= Proof::Content);
        let (host, now) = (host::host_name(), host::now());
        let mut proven = BTreeSet::new();
        for (copy, found) in copies.iter().zip(&verified.copies) {
            let name = made
                .places
                .get_key_value(copy.destination)
                .map(|(name, _)| name.as_str());
            let Some(name) = name else { continue };
            match found {
                found if is_opened(found) => {
                    self.record(copy.store, &made.manifest, found, &host, now, name, row);
                    proven.insert(name);
                }
                Found::Good(_) => row.errors.push(format!(
                    "destination {name} keeps the old one, the new one is not proven further: {}",
                    verified.short_of.as_deref().unwrap_or("it was not opened")
                )),
                Found::Wrong(faults) => {
                    self.record(copy.store, &made.manifest, found, &host, now, name, row);
                    row.errors
                        .push(format!("destination {name}: the new one is bad: {}", faults.join("; ")));
                }
                Found::Gone => row
                    .errors
                    .push(format!("destination {name}: the new one was removed meanwhile")),
                Found::Unread(why) => row.errors.push(format!("destination {name}: {why}")),
            }
        }
        Ok(proven)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is found of one copy, where, by whom and when"
    )]
    fn record(
        &self,
        store: &Store,
        manifest: &Manifest,
        found: &Found,
        host: &HostName,
        now: jiff::Timestamp,
        name: &str,
        row: &mut Row,
    ) {
        if let Err(error) = verify::record(store, manifest, found, host, now) {
            row.errors.push(format!("destination {name}: {}", with_causes(&error)));
        }
    }

    /// Removes a backup from a destination where the new one is proven; a pin goes over to that first.
    fn give_place(&self, old: &Backup, name: &str, store: &Store, new: &Manifest) -> Result<(), store::Error> {
        let path = old.manifest().chain_path();
        let pin = ObjectName::Pin(path.clone());
        let is_pinned = old
            .copies
            .iter()
            .any(|copy| copy.destination == name && copy.pinned == Pinned::Yes);
        match store.read_small(&pin, PIN_MAX) {
            Ok(words) => {
                let words: Option<Pin> = serde_json::from_slice(&words).ok();
                let words = words.unwrap_or_else(|| Pin::new(host::now(), &host::host_name(), None));
                put_pin(store, new, &words)?;
                gone_is_fine(store.remove(&pin))?;
            }
            Err(store::Error::NotFound { .. }) => {}
            // It counts though it cannot be read.
            Err(store::Error::Unfit { .. }) if is_pinned => {
                put_pin(store, new, &Pin::new(host::now(), &host::host_name(), None))?;
                gone_is_fine(store.remove(&pin))?;
            }
            Err(error) => return Err(error),
        }
        // One that was pinned since stays.
        for object in removal_order(&path, &store.list_chain(&path)?).unwrap_or_default() {
            gone_is_fine(store.remove(&object))?;
        }
        Ok(())
    }
}

/// The destinations with a good copy, and how far it is proven there.
fn good_places(backup: &Backup) -> BTreeMap<String, Proof> {
    let good = backup.copies.iter().filter_map(|copy| match &copy.standing {
        Standing::Good(proof) if *proof >= Proof::Stored => Some((copy.destination.clone(), *proof)),
        Standing::Good(_) | Standing::Bad(_) => None,
    });
    good.collect()
}

fn put_pin(store: &Store, manifest: &Manifest, words: &Pin) -> Result<(), store::Error> {
    match store.put_new(&ObjectName::Pin(manifest.chain_path()), &words.to_bytes()) {
        Ok(()) | Err(store::Error::AlreadyExists { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn gone_is_fine(removed: Result<(), store::Error>) -> Result<(), store::Error> {
    match removed {
        Ok(()) | Err(store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
