//! What a verification came to, backup by backup.

use super::deltas::{self, CheckedDeltas};
use super::{Checked, CheckedCopy, Depth, One, Results, Run, worse};
use crate::catalog::{Backup, Odd, Oddity};
use crate::destinations::{Destinations, ManifestError};
use crate::error_chain::with_causes;
use crate::jobs::Exit;
use crate::layout::{Listed, Manifest, Proof};
use crate::store;
use crate::verify::{self, Behind, Copy, Found, Recorded, Turn};

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
    pub(super) fn failed(&mut self, backup: &Backup, error: &ManifestError) -> Turn {
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
    pub(super) fn take(&mut self, run: &Run<'_>, backup: &Backup, one: One<'_>) -> Turn {
        let One {
            manifest,
            copies,
            verified,
            behind,
            now,
        } = one;
        let depth = match run.identities.is_some() && verified.unopened.is_none() {
            true => Depth::Opened,
            false => Depth::Compared,
        };
        let is_unread = |found: &Found| matches!(found, Found::Unread(_));
        let is_unread_behind = behind.iter().flatten().any(|behind| !behind.unread.is_empty());
        // One copy that cannot be read keeps the backup at the head of the queue.
        let turn = match verified.copies.iter().any(is_unread) || is_unread_behind {
            true => Turn::Passed,
            false => Turn::Taken,
        };
        let mut rows = Vec::new();
        let names = copies.iter().map(|copy| copy.destination);
        let found_behind: Vec<_> = names
            .zip(behind.iter().map(Option::as_ref).chain(std::iter::repeat(None)))
            .collect();
        let not_opened = match (&run.identities, &verified.unopened) {
            (None, _) => Some("no identity was given".to_owned()),
            (Some(_), Some(error)) => Some(with_causes(error)),
            (Some(_), None) => None,
        };
        let deltas = deltas::told(backup, &found_behind, not_opened.as_deref());
        self.behind(run, backup, &manifest, &found_behind);
        for ((copy, found), deltas) in copies.iter().zip(&verified.copies).zip(deltas) {
            let known = backup.copies.iter().find(|known| known.destination == copy.destination);
            let known = known.map_or(&[][..], |known| &known.faults_behind);
            let read = found_behind.iter().find(|(name, _)| *name == copy.destination);
            let is_all = read.is_some_and(|(_, read)| read.is_some_and(Behind::is_whole));
            let said = deltas::recorded(deltas.as_ref(), is_all, known);
            match verify::record(copy.store, &manifest, found, &said, &run.host, now) {
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
            rows.extend(self.row(backup, copy, found, depth, deltas));
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
            ok: rows
                .iter()
                .all(|row| row.ok && row.deltas.as_ref().is_none_or(|deltas| deltas.ok)),
            proof: rows.iter().map(|row| row.proof).max().unwrap_or(Proof::None),
            faults: rows
                .iter()
                .flat_map(|row| {
                    let behind = deltas::recorded(row.deltas.as_ref(), true, &[]).into_iter();
                    let behind = behind.map(|fault| format!("deltas: {fault}"));
                    let faults = row.faults.iter().cloned().chain(behind);
                    faults.map(|fault| format!("{}: {fault}", row.name))
                })
                .collect(),
            not_opened,
            note: verified.short_of,
            warnings: verified.warnings,
            destinations: rows,
        });
        turn
    }

    /// What could not be read or opened of what follows a backup, and how it ends where something is wrong.
    fn behind(&mut self, run: &Run<'_>, backup: &Backup, manifest: &Manifest, found: &[(&str, Option<&Behind>)]) {
        for (name, behind) in found {
            let Some(behind) = behind else { continue };
            if !behind.faults.is_empty() {
                self.exit = worse(self.exit, Exit::Damaged);
            }
            for unread in &behind.unread {
                let id = backup.id();
                self.errors
                    .push(format!("deltas of {id} in destination {name}: {unread}"));
                self.exit = worse(self.exit, Exit::Partly);
            }
            if let Some(error) = &behind.unopened {
                let failure = (run.explain)(error, manifest);
                self.errors.push(failure.to_string());
                self.exit = worse(self.exit, failure.exit);
            }
        }
    }

    fn row(
        &mut self,
        backup: &Backup,
        copy: &Copy<'_>,
        found: &Found,
        depth: Depth,
        deltas: Option<CheckedDeltas>,
    ) -> Option<CheckedCopy> {
        let row = |ok, proof, faults: &[String]| CheckedCopy {
            name: copy.destination.to_owned(),
            ok,
            proof,
            faults: faults.to_vec(),
            deltas,
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
