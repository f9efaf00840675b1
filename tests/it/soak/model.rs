//! What etcd keeps, as a model: the log of one key space, its leases, its compactions, and HashKV of any of its revisions.
//!
//! It is written from the rules alone and shares no code with the library: its numbers decide between that and a server.

use std::collections::{BTreeMap, BTreeSet};

/// A key that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// One change in the log.
#[derive(Debug, Clone)]
struct Change {
    main: i64,
    sub: i64,
    key: Vec<u8>,
    /// `None` for a deletion.
    entry: Option<Entry>,
}

/// A key space from its first revision on. Nothing is ever dropped.
#[derive(Debug)]
pub struct Model {
    pub revision: i64,
    pub live: BTreeMap<Vec<u8>, Entry>,
    pub leases: BTreeMap<i64, i64>,
    /// Every compaction, ascending.
    pub compactions: Vec<i64>,
    log: Vec<Change>,
}

/// What a comparison looks at.
#[derive(Debug, Clone)]
pub enum Subject {
    Version(i64),
    Created(i64),
    Modified(i64),
    Lease(i64),
    Value(Vec<u8>),
}

/// How it compares.
#[derive(Debug, Clone, Copy)]
pub enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// One comparison of a transaction.
#[derive(Debug, Clone)]
pub struct Guard {
    pub key: Vec<u8>,
    pub subject: Subject,
    pub relation: Relation,
}

/// One step of a transaction.
#[derive(Debug, Clone)]
pub enum Step {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    /// Of a key, or of all from it up to the end of the range.
    Delete {
        key: Vec<u8>,
        end: Option<Vec<u8>>,
    },
    Get {
        key: Vec<u8>,
    },
    Txn(Txn),
}

/// A transaction, which others may be nested in.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub guards: Vec<Guard>,
    pub then: Vec<Step>,
    pub otherwise: Vec<Step>,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            revision: 1,
            live: BTreeMap::new(),
            leases: BTreeMap::new(),
            compactions: Vec::new(),
            log: Vec::new(),
        }
    }
}

impl Model {
    /// How far history is compacted, -1 for not at all.
    pub fn compacted(&self) -> i64 {
        self.compactions.last().copied().unwrap_or(-1)
    }

    /// Takes steps that were taken in one revision.
    pub fn apply(&mut self, steps: &[Step]) {
        let chosen = steps.iter().map(|step| self.chosen(step)).collect::<Vec<_>>();
        let mut sub = 0;
        for step in chosen {
            self.take(&step, &mut sub);
        }
        self.close(sub);
    }

    /// Takes the revocation of a lease: its keys go, in order, in one revision.
    pub fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let keys: Vec<_> = self.live.iter().filter(|(_, entry)| entry.lease == lease).collect();
        let keys: Vec<_> = keys.into_iter().map(|(key, _)| key.clone()).collect();
        let mut sub = 0;
        for key in keys {
            self.delete(key, &mut sub);
        }
        self.close(sub);
    }

    /// Whether the guards of a transaction hold.
    pub fn holds(&self, txn: &Txn) -> bool {
        txn.guards.iter().all(|guard| self.guard_holds(guard))
    }

    /// HashKV of a revision by a server that has compacted up to `compacted`. `None` where no key lives then: the number
    /// depends on how much of the log that server has removed, unless it is `finished`.
    pub fn hash_kv(&self, revision: i64, compacted: i64, finished: bool) -> Option<u32> {
        let kept = self.kept(revision);
        if kept.is_empty() && compacted > 0 && !finished {
            return None;
        }
        // What a compaction leaves where the hash does not say itself what counts.
        let stored = if kept.is_empty() {
            self.kept(compacted)
        } else {
            BTreeSet::new()
        };
        let mut hash = crc32c::crc32c(b"key");
        for change in self.log.iter().take_while(|change| change.main <= revision) {
            let place = (change.main, change.sub);
            let is_old = change.main <= compacted;
            let counts = match (is_old, kept.is_empty()) {
                (false, _) => true,
                (true, false) => kept.contains(&place),
                (true, true) => stored.contains(&place),
            };
            if counts && !(change.main == compacted && change.entry.is_none()) {
                hash = crc32c::crc32c_append(hash, &change.key());
                hash = crc32c::crc32c_append(hash, &change.value());
            }
        }
        Some(hash)
    }

    /// How many keys lived at a revision.
    pub fn live_at(&self, revision: i64) -> u64 {
        self.kept(revision).len() as u64
    }

    /// The last changes of all keys that lived at a revision.
    fn kept(&self, revision: i64) -> BTreeSet<(i64, i64)> {
        let mut last: BTreeMap<&[u8], Option<(i64, i64)>> = BTreeMap::new();
        for change in self.log.iter().take_while(|change| change.main <= revision) {
            let place = change.entry.is_some().then_some((change.main, change.sub));
            last.insert(&change.key, place);
        }
        last.into_values().flatten().collect()
    }

    /// A step with the branches that its transactions take: they are chosen before anything is done.
    fn chosen(&self, step: &Step) -> Step {
        let Step::Txn(txn) = step else {
            return step.clone();
        };
        let branch = if self.holds(txn) { &txn.then } else { &txn.otherwise };
        Step::Txn(Txn {
            then: branch.iter().map(|step| self.chosen(step)).collect(),
            ..Txn::default()
        })
    }

    fn take(&mut self, step: &Step, sub: &mut i64) {
        match step {
            Step::Put { key, value, lease } => self.put(key, value, *lease, sub),
            Step::Delete { key, end: None } => self.delete(key.clone(), sub),
            Step::Delete { key, end: Some(end) } => {
                let from = self.live.range(key.clone()..).map(|(key, _)| key.clone());
                let all = end.as_slice() == [0];
                let keys: Vec<_> = from.take_while(|key| all || key < end).collect();
                for key in keys {
                    self.delete(key, sub);
                }
            }
            Step::Get { .. } => {}
            Step::Txn(txn) => {
                for step in &txn.then {
                    self.take(step, sub);
                }
            }
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8], lease: i64, sub: &mut i64) {
        let main = self.revision + 1;
        let before = self.live.get(key).map(|entry| (entry.create_revision, entry.version));
        let (create_revision, version) = before.unwrap_or((main, 0));
        let entry = Entry {
            value: value.to_vec(),
            create_revision,
            mod_revision: main,
            version: version + 1,
            lease,
        };
        self.live.insert(key.to_vec(), entry.clone());
        self.change(key.to_vec(), Some(entry), sub);
    }

    fn delete(&mut self, key: Vec<u8>, sub: &mut i64) {
        if self.live.remove(&key).is_some() {
            self.change(key, None, sub);
        }
    }

    fn change(&mut self, key: Vec<u8>, entry: Option<Entry>, sub: &mut i64) {
        let main = self.revision + 1;
        let sub_now = *sub;
        *sub += 1;
        self.log.push(Change {
            main,
            sub: sub_now,
            key,
            entry,
        });
    }

    /// A revision is one only where something changed.
    fn close(&mut self, changes: i64) {
        self.revision += i64::from(changes > 0);
    }

    fn guard_holds(&self, guard: &Guard) -> bool {
        use std::cmp::Ordering;
        let entry = self.live.get(&guard.key);
        let number = |of: fn(&Entry) -> i64| entry.map_or(0, of);
        let order = match &guard.subject {
            Subject::Version(other) => number(|entry| entry.version).cmp(other),
            Subject::Created(other) => number(|entry| entry.create_revision).cmp(other),
            Subject::Modified(other) => number(|entry| entry.mod_revision).cmp(other),
            Subject::Lease(other) => number(|entry| entry.lease).cmp(other),
            // The value of a key that is not there compares with nothing.
            Subject::Value(other) => match entry {
                Some(entry) => entry.value.cmp(other),
                None => return false,
            },
        };
        match guard.relation {
            Relation::Equal => order == Ordering::Equal,
            Relation::Greater => order == Ordering::Greater,
            Relation::Less => order == Ordering::Less,
            Relation::NotEqual => order != Ordering::Equal,
        }
    }
}

impl Change {
    /// The revision, as the database has it.
    fn key(&self) -> Vec<u8> {
        let mut bytes = self.main.to_be_bytes().to_vec();
        bytes.push(b'_');
        bytes.extend(self.sub.to_be_bytes());
        bytes.extend(self.entry.is_none().then_some(b't'));
        bytes
    }

    /// The record, as the database has it: `mvccpb.KeyValue`, without fields that are zero or empty.
    fn value(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, 1, &self.key);
        if let Some(entry) = &self.entry {
            put_number(&mut bytes, 2, entry.create_revision);
            put_number(&mut bytes, 3, entry.mod_revision);
            put_number(&mut bytes, 4, entry.version);
            put_bytes(&mut bytes, 5, &entry.value);
            put_number(&mut bytes, 6, entry.lease);
        }
        bytes
    }
}

fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        message.push(field << 3 | 2);
        put_varint(message, bytes.len() as u64);
        message.extend_from_slice(bytes);
    }
}

fn put_number(message: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        message.push(field << 3);
        put_varint(message, number as u64);
    }
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[test]
fn the_model_has_the_numbers_of_a_real_server() {
    // Put a=1, put b=2, put a=3, delete b: etcd 3.5.30 told these.
    let mut model = Model::default();
    let put = |key: &[u8], value: &[u8]| Step::Put {
        key: key.to_vec(),
        value: value.to_vec(),
        lease: 0,
    };
    for step in [
        put(b"a", b"1"),
        put(b"b", b"2"),
        put(b"a", b"3"),
        Step::Delete {
            key: b"b".to_vec(),
            end: None,
        },
    ] {
        model.apply(&[step]);
    }
    assert_eq!(model.revision, 5);
    for (revision, compacted, hash) in [
        (5, -1, 1_125_682_900),
        (4, -1, 2_069_675_932),
        (3, -1, 1_827_592_406),
        (5, 4, 1_468_967_122),
        (5, 5, 3_184_071_396),
        (4, 3, 1_107_643_163),
    ] {
        assert_eq!(
            model.hash_kv(revision, compacted, true),
            Some(hash),
            "{revision} after {compacted}"
        );
    }
}
