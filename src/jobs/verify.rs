//! Verification: reads stored backups back, opens them if it can, and writes down what it found.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use serde::Serialize;

use super::stores::read_within;
use super::{Exit, Failure, host, signing};
use crate::catalog::{Backup, Odd, Oddity, Standing};
use crate::config::Config;
use crate::destinations::{Destinations, ManifestError};
use crate::error_chain::with_causes;
use crate::layout::{HostName, Listed, Manifest, Proof};
use crate::model::ChainId;
use crate::pipeline::Identities;
use crate::source;
use crate::store::{self, Limits};
use crate::verify::{self, Copy, Found, Job, Recorded, Share, Stopped, Turn, Verified, least_recently_read};

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Results {
    /// What was checked.
    pub checked: Vec<Checked>,
    /// What was removed, as by retention, before it came to be checked.
    pub gone: Vec<ChainId>,
    /// Of what could not be checked, or whose result could not be kept.
    pub errors: Vec<String>,
    /// Objects that are missing, not ours, orphaned or unfinished, where all that is listed was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects: Option<Vec<Odd>>,
    /// How many were chosen and not reached, because the end was asked for.
    pub stopped_before: usize,
    /// How it ends.
    #[serde(skip)]
    pub exit: Exit,
}

/// One backup, as programs see it.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// Which.
    pub id: ChainId,
    /// Whether it is good.
    pub ok: bool,
    /// How far it is proven.
    pub proof: Proof,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// Why it could not be proven further.
    pub note: Option<String>,
    /// What is no damage of its database, and still not as it should be.
    pub warnings: Vec<String>,
    /// Its copies.
    pub destinations: Vec<CheckedCopy>,
}

/// One copy of it.
#[derive(Debug, Serialize)]
pub struct CheckedCopy {
    /// The destination.
    pub name: String,
    /// Whether it is good.
    pub ok: bool,
    /// How far it is proven.
    pub proof: Proof,
    /// What is wrong with it.
    pub faults: Vec<String>,
    /// How far it was looked at.
    #[serde(skip)]
    pub depth: Depth,
}

/// How far this run has looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The stored bytes are those that were stored: what was proven of them before still is.
    Compared,
    /// They were opened.
    Opened,
}

/// What is the same for all backups of a run.
pub struct Run<'a> {
    /// Where the backups are.
    pub destinations: &'a Destinations,
    /// What opens them.
    pub identities: Option<Identities>,
    /// How much memory it may take.
    pub memory: u64,
    /// Who checks.
    pub host: HostName,
    /// Raised when it is to stop.
    pub stop: &'a AtomicBool,
    /// Whether a result that cannot be kept is an error: not in a store that was only named.
    pub must_record: bool,
    /// What to say of one that cannot be opened.
    pub explain: fn(&source::Error, &Manifest) -> Failure,
}

/// What is to be verified.
pub struct Wanted<'a> {
    /// In this order.
    pub backups: Vec<&'a Backup>,
    /// Until so many were read.
    pub enough: usize,
    /// After that none is begun.
    pub until: Option<Timestamp>,
}

impl<'a> Wanted<'a> {
    /// All of these.
    pub fn all(backups: Vec<&'a Backup>) -> Wanted<'a> {
        Wanted {
            enough: backups.len(),
            backups,
            until: None,
        }
    }

    /// A share of what there is, the least recently read first.
    pub fn share(destinations: &'a Destinations, share: Share) -> Wanted<'a> {
        let backups = least_recently_read(&destinations.catalog);
        Wanted {
            enough: share.of(backups.len()),
            backups,
            until: None,
        }
    }
}

/// What a schedule verifies at a time: little enough to be soon done, enough to come to all in time.
const SHARE_OF_A_ROUND: f64 = 10.0;

/// What a round came to.
pub struct Round {
    /// How many backups were verified.
    pub checked: usize,
    /// Those that are bad, and why.
    pub wrong: Vec<String>,
    /// Those that could not be proven as far as they might be, and why.
    pub short: Vec<String>,
    /// What could not be done.
    pub errors: Vec<String>,
}

/// Verifies a share of what `destination` has, and begins with none after `until`; `sign` hears that it gets on.
pub fn round(
    config: &Config,
    destination: &str,
    stop: &AtomicBool,
    until: Timestamp,
    sign: impl Fn(),
) -> Result<Round, Failure> {
    signing::prepare(config, &host::state(&config.cluster.name)?)?;
    let destinations = read_within(config, Some(destination), Limits::default())?;
    if let Some((name, error)) = destinations.unreadable.first() {
        return Err(Failure::new(Exit::Failed, format!("destination {name}: {error}")));
    }
    let run = Run {
        identities: host::identities(config)?,
        memory: host::spare_memory(),
        host: host::host_name(),
        stop,
        must_record: true,
        destinations: &destinations,
        explain: |error, _| Failure::new(Exit::Failed, error),
    };
    let share = Share::percent(SHARE_OF_A_ROUND).expect("it is between 0 and 100");
    let wanted = Wanted {
        until: Some(until),
        ..Wanted::share(&destinations, share)
    };
    let mut results = Results::default();
    verify_each(&run, &wanted, |_, _| sign(), &mut results);
    let bad = results.checked.iter().filter(|checked| !checked.ok);
    Ok(Round {
        checked: results.checked.len(),
        wrong: bad
            .map(|bad| format!("{} is bad in {}", bad.id, bad.faults.join("; ")))
            .collect(),
        short: results
            .checked
            .iter()
            .filter_map(|checked| {
                Some(format!(
                    "{} could not be proven further: {}",
                    checked.id,
                    checked.note.as_ref()?
                ))
            })
            .collect(),
        errors: results.errors,
    })
}

/// Verifies one after the other; `at` hears how far it has come, of how much.
pub fn verify_each(run: &Run<'_>, wanted: &Wanted<'_>, mut at: impl FnMut(u64, u64), results: &mut Results) {
    let opened = run.identities.is_some();
    let work = |backup: &&Backup| verify::work(backup, opened);
    let total = wanted.backups.iter().take(wanted.enough).map(work).sum();
    let (mut before, mut read) = (0, 0);
    verify::until_read(&wanted.backups, wanted.enough, |index, backup| {
        if index > 0 && wanted.until.is_some_and(|until| host::now() >= until) {
            return ControlFlow::Break(());
        }
        let mut done = 0;
        let progress = |bytes| {
            done += bytes;
            at((before + done).min(total), total);
        };
        let turn = match verify_one(run, backup, progress) {
            Ok(one) => results.take(run, backup, one),
            Err(Unchecked::Stopped) => {
                results.stopped_before = wanted.enough - read;
                return ControlFlow::Break(());
            }
            Err(Unchecked::Failed(error)) => results.failed(backup, &error),
        };
        if turn == Turn::Taken {
            before += work(&backup);
            read += 1;
        }
        // One that cannot be read gives no other sign.
        at(before.min(total), total);
        ControlFlow::Continue(turn)
    });
}

enum Unchecked {
    Stopped,
    Failed(ManifestError),
}

/// A backup that was checked, and by whom.
struct One<'a> {
    manifest: Manifest,
    copies: Vec<Copy<'a>>,
    verified: Verified,
    now: Timestamp,
}

fn verify_one<'a>(run: &Run<'a>, backup: &'a Backup, progress: impl FnMut(u64)) -> Result<One<'a>, Unchecked> {
    let (manifest, _) = run.destinations.manifest(backup).map_err(Unchecked::Failed)?;
    let copies = backup.copies.iter().filter_map(|copy| {
        Some(Copy {
            destination: &copy.destination,
            store: run.destinations.stores.get(&copy.destination)?,
            before: match &copy.standing {
                Standing::Good(proof) => *proof,
                Standing::Bad(_) => Proof::Stored,
            },
        })
    });
    let copies: Vec<Copy<'a>> = copies.collect();
    let job = Job {
        manifest: &manifest,
        copies: &copies,
        identities: run.identities.as_ref(),
        memory: run.memory,
        stop: run.stop,
    };
    let verified = verify::verify(&job, progress).map_err(|Stopped| Unchecked::Stopped)?;
    Ok(One {
        manifest,
        copies,
        verified,
        now: host::now(),
    })
}

impl Default for Results {
    fn default() -> Results {
        Results {
            checked: Vec::new(),
            gone: Vec::new(),
            errors: Vec::new(),
            objects: None,
            stopped_before: 0,
            exit: Exit::Done,
        }
    }
}

impl Results {
    /// What the listing alone shows: documents that cannot be used, destinations that cannot be read.
    pub fn damaged(&mut self, destinations: &Destinations, all: bool) {
        for damaged in destinations.catalog.damaged() {
            self.errors.push(format!("{damaged}: {}", damaged.fault));
            if all && damaged.object.is_manifest() {
                self.exit = worse(self.exit, Exit::Damaged);
            }
        }
        for (name, error) in &destinations.unreadable {
            self.errors.push(format!("destination {name}: {error}"));
            self.exit = worse(self.exit, Exit::Partly);
        }
    }

    /// What of all that is listed is odd.
    pub fn odd(&mut self, destinations: &Destinations) {
        let mut objects = destinations.catalog.odd();
        let missing = self.missing(destinations);
        if !missing.is_empty() {
            self.exit = worse(self.exit, Exit::Damaged);
        }
        objects.extend(missing);
        for (name, store) in &destinations.stores {
            match store.unfinished() {
                Ok(uploads) => objects.extend(uploads.into_iter().flatten().filter_map(|upload| {
                    let path = match upload.name {
                        Listed::Ours(name) => name.to_string(),
                        Listed::Partial { path, .. } => path,
                        Listed::EmptyFolder { .. } | Listed::Foreign(_) | Listed::Unreadable { .. } => return None,
                    };
                    Some(Odd {
                        destination: name.clone(),
                        oddity: Oddity::Unfinished,
                        path,
                    })
                })),
                Err(error) => self.errors.push(format!(
                    "destination {name}: uploads that did not end are not told: {}",
                    with_causes(&error)
                )),
            }
        }
        objects.sort();
        self.objects = Some(objects);
    }

    /// The objects of backups that were listed without them, and that are backups still: others were removed meanwhile.
    fn missing(&mut self, destinations: &Destinations) -> Vec<Odd> {
        let mut missing = Vec::new();
        for backup in destinations.catalog.backups() {
            for copy in backup.copies.iter().filter(|copy| copy.written_at.is_none()) {
                let name = &copy.destination;
                let Some(store) = destinations.stores.get(name) else {
                    continue;
                };
                match store.open_object(&backup.manifest().name()) {
                    Ok(_) => missing.push(Odd {
                        destination: name.clone(),
                        oddity: Oddity::Missing,
                        path: backup.manifest().object_name().to_string(),
                    }),
                    Err(store::Error::NotFound { .. }) => {}
                    Err(error) => {
                        self.errors.push(format!(
                            "{} in destination {name}: {}",
                            backup.id(),
                            with_causes(&error)
                        ));
                        self.exit = worse(self.exit, Exit::Partly);
                    }
                }
            }
        }
        missing
    }

    /// A backup whose manifest could not be had any more.
    fn failed(&mut self, backup: &Backup, error: &ManifestError) -> Turn {
        let exit = match error {
            // Nothing is wrong with that.
            ManifestError::Gone { .. } => {
                self.gone.push(backup.id().clone());
                return Turn::Taken;
            }
            ManifestError::Damaged { .. } | ManifestError::Changed { .. } => Exit::Damaged,
            ManifestError::Store(_) => Exit::Failed,
        };
        self.errors.push(format!("{}: {}", backup.id(), with_causes(error)));
        self.exit = worse(self.exit, exit);
        Turn::Passed
    }

    /// Keeps the results of one backup, and takes them in.
    fn take(&mut self, run: &Run<'_>, backup: &Backup, one: One<'_>) -> Turn {
        let One {
            manifest,
            copies,
            verified,
            now,
        } = one;
        let depth = match run.identities.is_some() && verified.unopened.is_none() {
            true => Depth::Opened,
            false => Depth::Compared,
        };
        let is_unread = |found: &Found| matches!(found, Found::Unread(_));
        // One copy that cannot be read keeps the backup at the head of the queue.
        let turn = match verified.copies.iter().any(is_unread) {
            true => Turn::Passed,
            false => Turn::Taken,
        };
        let mut rows = Vec::new();
        for (copy, found) in copies.iter().zip(&verified.copies) {
            match verify::record(copy.store, &manifest, found, &run.host, now) {
                Ok(Recorded::Yes | Recorded::Nothing) => {}
                Err(error) => {
                    let name = copy.destination;
                    self.errors.push(format!(
                        "{} in destination {name}: {}",
                        backup.id(),
                        with_causes(&error)
                    ));
                    if run.must_record {
                        self.exit = worse(self.exit, Exit::Partly);
                    }
                }
            }
            rows.extend(self.row(backup, copy, found, depth));
        }
        if let Some(error) = &verified.unopened {
            let failure = (run.explain)(error, &manifest);
            self.errors.push(failure.to_string());
            self.exit = worse(self.exit, failure.exit);
        }
        if rows.is_empty() {
            if verified.copies.iter().all(|found| matches!(found, Found::Gone)) {
                self.gone.push(backup.id().clone());
            }
            return turn;
        }
        self.checked.push(Checked {
            id: backup.id().clone(),
            ok: rows.iter().all(|row| row.ok),
            proof: rows.iter().map(|row| row.proof).max().unwrap_or(Proof::None),
            faults: rows
                .iter()
                .flat_map(|row| row.faults.iter().map(|fault| format!("{}: {fault}", row.name)))
                .collect(),
            note: verified.short_of,
            warnings: verified.warnings,
            destinations: rows,
        });
        turn
    }

    fn row(&mut self, backup: &Backup, copy: &Copy<'_>, found: &Found, depth: Depth) -> Option<CheckedCopy> {
        let row = |ok, proof, faults: &[String]| CheckedCopy {
            name: copy.destination.to_owned(),
            ok,
            proof,
            faults: faults.to_vec(),
            depth,
        };
        match found {
            Found::Good(proof) => Some(row(true, *proof, &[])),
            Found::Wrong(faults) => {
                self.exit = worse(self.exit, Exit::Damaged);
                Some(row(false, Proof::None, faults))
            }
            Found::Gone => None,
            Found::Unread(error) => {
                let name = copy.destination;
                self.errors.push(format!(
                    "{} in destination {name} was not checked: {error}",
                    backup.id()
                ));
                self.exit = worse(self.exit, Exit::Partly);
                None
            }
        }
    }
}

/// Of two ends the one that must not be overlooked.
pub fn worse(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Damaged => 4,
        Exit::WrongKey => 3,
        Exit::Done => 0,
        Exit::Partly => 1,
        Exit::Failed | Exit::Usage | Exit::NotFound | Exit::Locked | Exit::Refused | Exit::Configuration => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::manifest;
    use crate::destinations::Destination;
    use crate::store::tests::store;

    #[test]
    fn an_object_is_missing_only_where_its_backup_is_one_still() {
        let (_root, store) = store();
        let lost = manifest(0xab, "20261120T101530Z-00000001", 10);
        store.put_new(&lost.name(), &lost.to_bytes()).unwrap();
        let opened = [Destination {
            name: "local".to_owned(),
            store: Ok(store.clone()),
        }];
        let read = Destinations::read("prod".parse().unwrap(), &opened, None);
        let odd = || {
            let mut results = Results::default();
            results.odd(&read);
            assert_eq!(results.errors, [""; 0]);
            let objects = results.objects.unwrap().into_iter();
            (
                results.exit,
                objects.map(|odd| (odd.oddity, odd.path)).collect::<Vec<_>>(),
            )
        };
        let object = lost.object_name().to_string();
        assert_eq!(odd(), (Exit::Damaged, vec![(Oddity::Missing, object)]));
        // Retention has removed it since the store was listed: the manifest goes first, and the object after it.
        store.remove(&lost.name()).unwrap();
        assert_eq!(odd(), (Exit::Done, Vec::new()));
    }
}
