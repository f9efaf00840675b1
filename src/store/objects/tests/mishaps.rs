//! Whatever goes wrong, in any order.

use super::*;

/// Brings a backup from one store to another: the object as it is read, read back and compared, then the manifest.
fn bring(from: &Store, to: &Store, backup: &Manifest) -> Result<(), Error> {
    let object = backup.object_name();
    let expected = ReadBack {
        bytes: backup.stored.bytes,
        sha256: backup.stored.sha256,
    };
    let (reader, _) = from.open_object(&object)?;
    to.write_from(&object, reader, expected, |_| ControlFlow::Continue(()))?;
    match !to.reads_back() || to.read_back(&object)? == expected {
        true => to.put_new(&backup.name(), &backup.to_bytes()),
        false => Err(Error::Altered {
            at: to.address_of(&object),
        }),
    }
}

/// A sequence of numbers that looks random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// What goes wrong, by chance.
fn mishaps(mut dice: Dice, one_in: u64) -> impl FnMut(Kind, &str) -> Fault + Send {
    move |kind, _| match dice.roll(one_in) {
        0 => match dice.roll(12) {
            0 => Fault::Reset,
            1 => Fault::LostReply,
            2 if matches!(kind, Kind::Get | Kind::List) => Fault::Cut,
            3 => Fault::Status(403),
            4 => Fault::Status(429),
            5 => Fault::Status(500),
            6 => Fault::Status(503),
            // It is full; keys that have run out, or were changed.
            9 if matches!(kind, Kind::Put | Kind::Begin | Kind::Part | Kind::Complete) => Fault::Status(507),
            10 => Fault::Status(400),
            11 => Fault::Status(401),
            7 if dice.roll(40) == 0 => Fault::Hangs,
            // What it keeps is not what it was sent: it would show only later.
            8 if dice.roll(4) == 0 && matches!(kind, Kind::Part) => Fault::Rots,
            _ if kind == Kind::List => Fault::Stale(1 + dice.roll(300) as i64),
            _ => Fault::LostReply,
        },
        _ => Fault::None,
    }
}

type Opens = fn(&Server, Limits) -> Result<Store, Error>;

/// Hosts that back up, copy, remove, sweep, read and start again, while their server fails now and then.
struct Life {
    server: Server,
    store: Store,
    /// As another host has it.
    other: Store,
    opens: Opens,
    here: Store,
    _folder: tempfile::TempDir,
    /// Backups of which a write was told to have gone well, with their bytes; not those whose removal was begun.
    good: BTreeMap<ChainId, (Manifest, Vec<u8>)>,
    /// Runs that failed, or whose copy did.
    dead: BTreeSet<ChainId>,
    number: i64,
}

impl Life {
    fn new(opens: Opens) -> Life {
        let server = Server::new(now());
        let (folder, here) = crate::store::tests::store();
        Life {
            store: opens(&server, HASTY).unwrap(),
            other: opens(&server, HASTY).unwrap(),
            opens,
            server,
            here,
            _folder: folder,
            good: BTreeMap::new(),
            dead: BTreeSet::new(),
            number: 0,
        }
    }

    fn next(&mut self, dice: &mut Dice) -> (Manifest, Vec<u8>) {
        self.number += 1;
        let bytes = match dice.roll(12) {
            0 => PART + dice.roll(PART),
            1 => 0,
            _ => dice.roll(5000),
        };
        let content = content(bytes);
        let id = format!("20261120T101530Z-{:08x}", self.number);
        (backup(&content, &id, 10 + self.number), content)
    }

    /// One thing, and what it has begun: the time of the server goes on faster than that of what hangs.
    fn step(&mut self, dice: &mut Dice) {
        self.server.pass(SignedDuration::from_secs(30));
        // Its clock is set; and another host writes to it, too.
        match dice.roll(40) {
            0 => self.server.pass(SignedDuration::from_hours(1)),
            1 => self.server.pass(SignedDuration::from_hours(-1)),
            2..=9 => std::mem::swap(&mut self.store, &mut self.other),
            _ => {}
        }
        self.act(dice);
        while self.store.hangs_still() || self.other.hangs_still() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn act(&mut self, dice: &mut Dice) {
        match dice.roll(8) {
            0..=2 => {
                let (backup, content) = self.next(dice);
                let written = write(&self.store, &backup, &content);
                self.ended(backup, content, written.is_ok());
            }
            3 => {
                let (backup, content) = self.next(dice);
                write(&self.here, &backup, &content).unwrap();
                let copied = bring(&self.here, &self.store, &backup);
                self.ended(backup, content, copied.is_ok());
            }
            4 => {
                let Some(id) = self.good.keys().next().cloned().filter(|_| self.good.len() > 3) else {
                    return;
                };
                let (backup, _) = self.good.remove(&id).unwrap();
                // As retention does: the manifest first.
                if self.store.remove(&backup.name()).is_ok() && self.store.remove(&backup.object_name()).is_err() {
                    self.dead.insert(id);
                }
            }
            5 => {
                let begun = crate::store::Begun {
                    dead: self.dead.clone(),
                    ..crate::store::Begun::default()
                };
                self.store.sweep(&begun).ok();
            }
            6 => {
                let which = dice.roll(1 + self.good.len() as u64) as usize;
                let Some((backup, _)) = self.good.values().nth(which) else {
                    return;
                };
                if let Ok(read) = self.store.read_back(&backup.object_name()) {
                    assert_eq!((read.bytes, read.sha256), (backup.stored.bytes, backup.stored.sha256));
                }
            }
            _ => {
                if let Ok(again) = (self.opens)(&self.server, HASTY) {
                    assert_eq!(again.id(), self.store.id(), "one store has one marker");
                    self.store = again;
                }
            }
        }
    }

    fn ended(&mut self, backup: Manifest, content: Vec<u8>, is_good: bool) {
        match is_good {
            true => {
                self.good.insert(backup.chain.clone(), (backup, content));
            }
            false => {
                self.dead.insert(backup.chain);
            }
        }
    }

    /// With a server that works again, and after some days: all that was told to be good is, and nothing else is left.
    fn looks_as_it_should(mut self) {
        self.server.work();
        // And some hours more: its clock may have been set back.
        self.server.pass(SignedDuration::from_hours(96));
        let begun = crate::store::Begun::default();
        self.store = (self.opens)(&self.server, HASTY).unwrap();
        self.store.sweep(&begun).unwrap();
        assert_eq!(self.server.open_uploads(), 0);
        let catalog = self.store.catalog("s3").unwrap();
        assert!(catalog.damaged().is_empty() && catalog.incomplete().is_empty());
        let found: BTreeSet<&ChainId> = catalog.backups().iter().map(|backup| backup.id()).collect();
        assert_eq!(found.len(), catalog.backups().len(), "none is there twice");
        for backup in catalog.backups() {
            let manifest = backup.manifest();
            let key = format!("etcd/prod/{}/full.db.zst.age", manifest.chain_path());
            let bytes = self.server.content(&key);
            let digest = bytes.map(|bytes| Digest(Sha256::digest(&bytes).into()));
            assert_eq!(digest, Some(manifest.stored.sha256), "{}", manifest.chain);
        }
        for id in self.good.keys() {
            assert!(found.contains(id), "{id} was good, and is lost");
        }
    }
}

/// `LIFEBOAT_SEED=N` runs one of them again, `LIFEBOAT_SEEDS=1000` more of them.
#[test]
fn whatever_goes_wrong_nothing_good_is_lost_and_nothing_wrong_is_called_good() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds: Vec<u64> = match number("LIFEBOAT_SEED") {
        Some(seed) => vec![seed],
        // Of the last one a sweep that trusts the listing loses a backup.
        None => (1..=number("LIFEBOAT_SEEDS").unwrap_or(30)).chain([142]).collect(),
    };
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut dice = Dice(0x9E37_79B9_7F4A_7C15 ^ seed);
            dice.roll(2);
            let mut life = Life::new([store_with, unread_store][dice.roll(2) as usize]);
            let one_in = [4, 10, 40][dice.roll(3) as usize];
            life.server.fail(mishaps(Dice(seed.wrapping_mul(77_777) | 1), one_in));
            for _ in 0..40 {
                life.step(&mut dice);
            }
            life.looks_as_it_should();
        });
        assert!(run.is_ok(), "LIFEBOAT_SEED={seed}");
    }
}

#[test]
fn a_server_that_takes_a_name_twice_loses_nothing_of_runs_that_have_names_of_their_own() {
    let server = Server::new(now());
    server.ignore_conditions();
    let (first, second) = (store(&server), store(&server));
    assert_eq!(first.id(), second.id());
    let content = content(PART + 1);
    for (store, id, revision) in [
        (&first, "20261120T101530Z-00000001", 10),
        (&second, "20261120T101530Z-00000002", 11),
    ] {
        let backup = backup(&content, id, revision);
        write(store, &backup, &content).unwrap();
    }
    assert_eq!(first.catalog("s3").unwrap().backups().len(), 2);
}
