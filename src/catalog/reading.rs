//! One destination on its way from a listing and its documents to a catalog.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Asked, Backup, BackupCopy, Catalog, ChainPath, Checked, Content, Fault, Headless, Incomplete, LastCheck, LastWord,
    Link, Listed, ListedObject, ObjectName, Outline, Pinned, PinsCount, Proof, Refused, Standing, Understood,
    Unreadable, damaged, order, ours, stranger,
};

use super::Foreign;
use super::leftovers::{Odd, Oddity};

/// The catalog of one destination while its documents come in.
pub(super) struct Reading<'a> {
    destination: &'a str,
    data: BTreeMap<&'a ChainPath, &'a ListedObject>,
    pins: BTreeSet<ChainPath>,
    pins_count: PinsCount,
    with_check: BTreeSet<&'a ChainPath>,
    checks: BTreeMap<ChainPath, Checked>,
    with_manifest: BTreeSet<&'a ChainPath>,
    links: BTreeMap<&'a ChainPath, Vec<Link>>,
    /// What lies beside a backup.
    of_chains: Vec<&'a ObjectName>,
    catalog: Catalog,
}

impl<'a> Reading<'a> {
    pub(super) fn of(destination: &'a str, objects: &'a [ListedObject], pins_count: PinsCount) -> Self {
        let mut reading = Reading {
            destination,
            data: BTreeMap::new(),
            pins: BTreeSet::new(),
            pins_count,
            with_check: BTreeSet::new(),
            checks: BTreeMap::new(),
            with_manifest: BTreeSet::new(),
            links: BTreeMap::new(),
            of_chains: Vec::new(),
            catalog: Catalog::default(),
        };
        for object in objects {
            match &object.name {
                Listed::Foreign(path) => reading.catalog.foreign.push(Foreign {
                    destination: destination.to_owned(),
                    path: path.clone(),
                }),
                Listed::Partial { path, .. } => reading.catalog.loose.push(Odd {
                    destination: destination.to_owned(),
                    oddity: Oddity::Unfinished,
                    path: path.clone(),
                }),
                Listed::Unreadable { path, why } => reading.catalog.unreadable.push(Unreadable {
                    destination: destination.to_owned(),
                    path: path.clone(),
                    why: why.clone(),
                }),
                Listed::Ours(_) | Listed::EmptyFolder { .. } => {}
            }
        }
        for (name, object) in ours(objects) {
            if !matches!(name, ObjectName::Full(_) | ObjectName::FullManifest(..)) && name.chain().is_some() {
                reading.of_chains.push(name);
            }
            match name {
                ObjectName::Full(chain) => {
                    reading.data.insert(chain, object);
                }
                ObjectName::Pin(chain) => match pins_count {
                    PinsCount::ByPresence => drop(reading.pins.insert(chain.clone())),
                    PinsCount::ByWord => {}
                },
                ObjectName::FullManifest(chain, _) => {
                    reading.with_manifest.insert(chain);
                }
                ObjectName::Check(chain, ..) => {
                    reading.with_check.insert(chain);
                }
                ObjectName::Epoch(chain, _)
                | ObjectName::Delta(chain, ..)
                | ObjectName::Pack(chain, ..)
                | ObjectName::Mark(chain, ..)
                | ObjectName::Gap(chain, ..) => {
                    let link = Link {
                        name: name.clone(),
                        bytes: object.bytes,
                        written_at: object.modified,
                    };
                    reading.links.entry(chain).or_default().push(link);
                }
                ObjectName::StoreMarker
                | ObjectName::Signers
                | ObjectName::Acceptance(_)
                | ObjectName::Canary(_)
                | ObjectName::Claim(..) => {}
            }
        }
        reading
    }

    pub(super) fn take(&mut self, document: Understood) {
        let Understood {
            name,
            content,
            signer,
            bytes,
        } = document;
        let content = match content {
            Ok(content) => Ok(content),
            Err(Refused::Damaged(fault)) => Err(damaged(self.destination, &name, fault, bytes)),
            Err(Refused::Stranger(why)) => {
                self.catalog
                    .strangers
                    .push(stranger(self.destination, &name, why, bytes));
                return;
            }
        };
        if let (ObjectName::Pin(chain), PinsCount::ByWord) = (&name, self.pins_count) {
            // One that cannot be read may be a good one.
            self.pins.insert(chain.clone());
        }
        if let ObjectName::Acceptance(number) = name {
            self.catalog.last_word = Some(LastWord {
                number,
                acceptance: match &content {
                    Ok(Content::Acceptance(acceptance)) => Ok(acceptance.clone()),
                    Ok(Content::Manifest(_) | Content::Check(_) | Content::Mark) => return,
                    Err(damaged) => Err(damaged.clone()),
                },
                signer,
            });
        }
        match (content, name) {
            (Ok(Content::Manifest(manifest)), _) => self.catalog.backups.push(Backup {
                manifest: *manifest,
                signer,
                copies: Vec::new(),
            }),
            (Ok(Content::Check(checked)), ObjectName::Check(chain, ..)) => {
                self.checks.insert(chain, checked);
            }
            (Ok(Content::Check(_) | Content::Acceptance(_) | Content::Mark), _) => {}
            (Err(damaged), _) => self.catalog.damaged.push(damaged),
        }
    }

    pub(super) fn finish(mut self) -> Catalog {
        let mut backups = std::mem::take(&mut self.catalog.backups);
        backups.sort_unstable_by(|a, b| order(a).cmp(&order(b)).then(a.revision().cmp(&b.revision())));
        self.take_out_doubles(&mut backups);
        for backup in &mut backups {
            let links = self.links.remove(&backup.manifest.chain_path()).unwrap_or_default();
            backup.copies = vec![self.copy_of(&backup.manifest, links)];
        }
        self.catalog.backups = backups;
        let headless = self
            .links
            .iter()
            .filter(|(chain, _)| !self.with_manifest.contains(*chain));
        let headless = headless.filter_map(|(chain, links)| Headless::of(self.destination, chain, links));
        self.catalog.headless.extend(headless);
        for (chain, object) in &self.data {
            if !self.with_manifest.contains(chain) {
                self.catalog.incomplete.push(Incomplete {
                    destination: self.destination.to_owned(),
                    chain: (*chain).clone(),
                    bytes: object.bytes,
                    modified: object.modified,
                });
            }
        }
        for name in &self.of_chains {
            if name.chain().is_some_and(|chain| !self.with_manifest.contains(chain)) {
                self.catalog.loose.push(Odd {
                    destination: self.destination.to_owned(),
                    oddity: Oddity::Orphaned,
                    path: name.to_string(),
                });
            }
        }
        // In whatever order documents came.
        self.catalog.damaged.sort_by(|a, b| a.object.cmp(&b.object));
        self.catalog.strangers.sort_by(|a, b| a.object.cmp(&b.object));
        self.catalog
    }

    /// One object cannot hold two revisions, and nothing here tells which manifest is right.
    fn take_out_doubles(&mut self, backups: &mut Vec<Backup>) {
        let is_same = |a: &Backup, b: &Backup| order(a) == order(b);
        let doubles = backups.windows(2).filter_map(|pair| match pair {
            [a, b] if is_same(a, b) => Some(a.manifest.chain_path()),
            _ => None,
        });
        let doubles: BTreeSet<ChainPath> = doubles.collect();
        if doubles.is_empty() {
            return;
        }
        let taken = backups.extract_if(.., |backup| doubles.contains(&backup.manifest.chain_path()));
        let taken: Vec<Backup> = taken.collect();
        for of_one_chain in taken.chunk_by(is_same) {
            let others = of_one_chain.iter().cycle().skip(1);
            for (Backup { manifest, .. }, other) in of_one_chain.iter().zip(others) {
                let other = other.manifest.name().to_string();
                let fault = Fault::NotAlone { other };
                let damaged = damaged(self.destination, &manifest.name(), fault, Some(manifest.document));
                self.catalog.damaged.push(damaged);
            }
        }
    }

    fn copy_of(&self, manifest: &Outline, links: Vec<Link>) -> BackupCopy {
        let chain = &manifest.chain_path();
        let expected = manifest.stored.bytes;
        let checked = self.checks.get(chain);
        let standing = match (self.data.get(chain), checked) {
            (None, _) => Standing::Bad(vec!["its object is missing".to_owned()]),
            (Some(data), _) if data.bytes != expected => Standing::Bad(vec![format!(
                "its object has {} bytes instead of {expected}",
                data.bytes
            )]),
            // What was seen while it was taken, no check of its bytes makes good.
            (Some(_), _) if !manifest.faults.is_empty() => Standing::Bad(manifest.faults.to_vec()),
            // What was proven of the stream is proven of the bytes that are equal to it; of those, the store's word is none.
            (Some(_), Some(checked)) => match &checked.standing {
                Standing::Good(Proof::Acknowledged) => checked.standing.clone(),
                Standing::Good(proof) => Standing::Good((*proof).max(manifest.proof)),
                Standing::Bad(_) => checked.standing.clone(),
            },
            (Some(_), None) => Standing::Good(manifest.proof.max(Proof::Stored)),
        };
        BackupCopy {
            destination: self.destination.to_owned(),
            standing,
            written_at: self.data.get(chain).map(|data| data.modified),
            checked_at: checked.map(|checked| checked.at),
            last_check: match checked.is_none() && self.with_check.contains(chain) {
                true => LastCheck::Unknown,
                false => LastCheck::Known,
            },
            faults_behind: checked.map_or_else(Vec::new, |checked| checked.behind.clone()),
            pinned: if self.pins.contains(chain) {
                Pinned::Yes
            } else {
                Pinned::No
            },
            asked: Asked::ReadBack,
            links,
        }
    }
}
