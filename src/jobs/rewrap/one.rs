//! One snapshot: it is made anew, spread, proven, and takes the place of what was there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::{Failure, Listener, failed, host};
use super::{Row, Run, Snapshot};
use crate::catalog::{Backup, Link, Pinned};
use crate::copy;
use crate::error_chain::with_causes;
use crate::layout::{ChainPath, HostName, Manifest, ObjectName, Pin, Proof, Writer};
use crate::model::ChainId;
use crate::pipeline::Encoding;
use crate::retention::removal_order;
use crate::rewrap;
use crate::state::{self, Holder};
use crate::store::{self, Store};
use crate::verify::{self, Copy, Found, Stopped};

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
        if is_present {
            let waiting = self.is_waiting_for_locks();
            if let Some(remarks) = waiting.map_err(|error| End::Failed(with_causes(&error)))? {
                row.destinations = good_places(leader).into_keys().collect();
                row.remarks = remarks;
                return Ok(());
            }
        }
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
                let why = match self.give_place(backup, store, &made.manifest) {
                    Ok(Given::Gone) => {
                        row.removed
                            .extend((!row.removed.iter().any(|gone| gone == name)).then(|| name.to_owned()));
                        continue;
                    }
                    Ok(Given::Locked(until)) => {
                        row.remarks.push(locked(backup, name, until));
                        continue;
                    }
                    Ok(Given::Followed) => {
                        row.remarks.push(followed(backup, name));
                        continue;
                    }
                    Ok(Given::PinnedSince) => "it was pinned meanwhile; the same command goes on".to_owned(),
                    Ok(Given::Alone) => "the new one was removed meanwhile".to_owned(),
                    Err(error) => with_causes(&error),
                };
                has_failed = true;
                row.errors.push(format!(
                    "{} stays in destination {name} beside the new one: {why}",
                    backup.id()
                ));
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
                family: &self.family(),
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

    /// The chains of the snapshot.
    fn family(&self) -> Vec<ChainPath> {
        let all = self.snapshot.all().map(|backup| backup.manifest().chain_path());
        all.collect()
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
                    family: &self.family(),
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
        // The same bytes in plain: what was proven of one backup of the snapshot is true of all. It goes into what is written
        // down and not into what is judged here, which is whether the new one was opened in this run.
        let of_all = self.snapshot.all().map(Backup::proof).max().unwrap_or(Proof::Stored);
        let copies = made.places.keys().filter_map(|name| {
            Some(Copy {
                destination: name,
                store: stores.get(name)?,
                before: Proof::Stored,
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
        let (host, now) = (host::host_name(), host::now());
        let mut proven = BTreeSet::new();
        for (copy, found) in copies.iter().zip(&verified.copies) {
            let name = made
                .places
                .get_key_value(copy.destination)
                .map(|(name, _)| name.as_str());
            let Some(name) = name else { continue };
            match found {
                Found::Good(proof) if *proof >= Proof::Content => {
                    let found = Found::Good(of_all.max(*proof));
                    self.record(copy.store, &made.manifest, &found, &host, now, name, row);
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
        now: Timestamp,
        name: &str,
        row: &mut Row,
    ) {
        if let Err(error) = verify::record(store, manifest, found, &[], host, now) {
            row.errors.push(format!("destination {name}: {}", with_causes(&error)));
        }
    }

    /// Where all copies that are to go are locked and the new one is everywhere: what there is to say. Nothing is to be done
    /// until the locks end.
    fn is_waiting_for_locks(&self) -> Result<Option<Vec<String>>, store::Error> {
        let leader = good_places(self.snapshot.leader);
        let is_opened_in = |name: &str| leader.get(name).is_some_and(|proof| *proof >= Proof::Content);
        if !self.snapshot.places().into_iter().all(is_opened_in) {
            return Ok(None);
        }
        let mut remarks = Vec::new();
        for backup in &self.snapshot.others {
            for copy in &backup.copies {
                let name = copy.destination.as_str();
                let object = ObjectName::Full(backup.manifest().chain_path());
                let Some(store) = self.run.destinations.stores.get(name) else {
                    continue;
                };
                match store.locked_until(&object)? {
                    Some(until) if until > host::now() && copy.pinned == Pinned::No => {
                        remarks.push(locked(backup, name, until));
                    }
                    Some(_) | None => return Ok(None),
                }
            }
        }
        Ok(Some(remarks))
    }

    /// Removes a backup from a destination where the new one is proven; a pin goes over to that first.
    fn give_place(&self, old: &Backup, store: &Store, new: &Manifest) -> Result<Given, store::Error> {
        let path = old.manifest().chain_path();
        let links = Link::listed(store.list_chain(&path)?);
        if links.iter().any(|link| link.name.span().is_some()) {
            return Ok(Given::Followed);
        }
        let pin = ObjectName::Pin(path.clone());
        let was_pinned = store.is_pinned(&path)?;
        copy::hand_pin_on(store, std::slice::from_ref(&path), &new.chain_path(), &words())?;
        // Retention of another host may have taken the new one for one that nobody has pinned.
        match store.open_object(&new.name()) {
            Ok(_) => {}
            Err(store::Error::NotFound { .. }) => return Ok(Given::Alone),
            Err(error) => return Err(error),
        }
        // A stranger's goes too, and is not signed anew. One that has come since then is not handed on, and stays.
        if was_pinned || !store.counts(&pin)? {
            gone_is_fine(store.remove(&pin))?;
        }
        match store.locked_until(&ObjectName::Full(path.clone()))? {
            Some(until) if until > host::now() => return Ok(Given::Locked(until)),
            Some(_) | None => {}
        }
        let Some(order) = removal_order(&path, &store.list_chain(&path)?) else {
            return Ok(Given::PinnedSince);
        };
        for object in order {
            gone_is_fine(store.remove(&object))?;
        }
        Ok(Given::Gone)
    }
}

/// What became of an old one that is to give place.
enum Given {
    Gone,
    /// It stays: somebody has pinned it meanwhile.
    PinnedSince,
    /// It stays until then.
    Locked(Timestamp),
    /// It stays: deltas follow it, and no other backup leads to their points.
    Followed,
    /// It stays: the new one is not there any more.
    Alone,
}

fn locked(old: &Backup, name: &str, until: Timestamp) -> String {
    let id = old.id();
    format!("{id} stays in destination {name} beside the new one: it is locked until {until:.0}")
}

fn followed(old: &Backup, name: &str) -> String {
    format!(
        "{} stays in destination {name} beside the new one: deltas follow it, for the recipients that it had; retention removes them together",
        old.id()
    )
}

/// The words of a pin that is handed on and cannot be read.
fn words() -> Pin {
    Pin::new(host::now(), &host::host_name(), None)
}

/// The destinations with a good copy, and how far it is proven there.
fn good_places(backup: &Backup) -> BTreeMap<String, Proof> {
    let good = backup.copies.iter().filter(|copy| copy.is_good());
    let good = good.map(|copy| (copy.destination.clone(), copy.standing.proof()));
    good.collect()
}

fn gone_is_fine(removed: Result<(), store::Error>) -> Result<(), store::Error> {
    match removed {
        Ok(()) | Err(store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
