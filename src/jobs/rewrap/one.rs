//! One snapshot: it is made anew, spread, proven, and takes the place of what was there.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Failure, Listener, failed, host, witness};
use super::{Row, Run, Snapshot};
use crate::catalog::{Backup, Pinned};
use crate::copy;
use crate::error_chain::with_causes;
use crate::layout::{HostName, Manifest, ObjectName, Pin, Proof, Writer};
use crate::model::ChainId;
use crate::pipeline::Encoding;
use crate::retention::removal_order;
use crate::rewrap;
use crate::state::{self, Holder};
use crate::store::{self, Store};
use crate::verify::{self, Copy, Found, Stopped};

/// The largest pin document that is read.
const PIN_MAX: u64 = 64 << 10;

/// A backup of which a good copy is proven here and there.
struct Made {
    manifest: Manifest,
    document: Vec<u8>,
    /// The destinations that have it, with how far it is known to be proven there.
    places: BTreeMap<String, Proof>,
}

/// Why it does not go on with a snapshot.
pub(super) enum End {
    Stopped,
    Failed(String),
    /// Nor with any other.
    Fatal(Failure),
}

/// One snapshot, and what is the same for all.
pub(super) struct One<'a> {
    pub run: &'a Run<'a>,
    pub listener: &'a dyn Listener,
    pub snapshot: &'a Snapshot<'a>,
    pub encoding: &'a Encoding,
    pub each: &'a (dyn Fn(u64) + Sync),
}

impl One<'_> {
    /// Brings one that is for the present recipients wherever the snapshot is, and removes what it takes the place of.
    pub fn replace(&self, manifest: Manifest, document: Vec<u8>, is_present: bool, row: &mut Row) -> Result<(), End> {
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
                if let Err(why) = witness::removing(&self.run.destinations.cluster, name, &[backup.id().clone()]) {
                    row.errors.push(why);
                }
                let object = ObjectName::Full(backup.manifest().chain_path());
                let given = match store.locked_until(&object) {
                    Ok(Some(until)) if until > host::now() => {
                        has_failed = true;
                        row.errors.push(format!(
                            "{} stays in destination {name} beside the new one: it is locked until {until:.0}",
                            backup.id()
                        ));
                        continue;
                    }
                    Ok(_) => self.give_place(backup, name, store, &made.manifest),
                    Err(error) => Err(error),
                };
                match given {
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
                    host: &host::host_name(),
                    stop: self.run.stop.clone(),
                };
                match copy::copy(&job, &|_| (self.each)(0)) {
                    Ok(_) => {
                        made.places.insert(name.to_owned(), to.asked().least());
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
            // A stranger's is not signed anew.
            Ok(_) if !store.counts(&pin)? => gone_is_fine(store.remove(&pin))?,
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
    let good = backup.copies.iter().filter(|copy| copy.is_good());
    let good = good.map(|copy| (copy.destination.clone(), copy.standing.proof()));
    good.collect()
}

fn put_pin(store: &Store, manifest: &Manifest, words: &Pin) -> Result<(), store::Error> {
    match store.put_document(&ObjectName::Pin(manifest.chain_path()), &words.to_bytes()) {
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
