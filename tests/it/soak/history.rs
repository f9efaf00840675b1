//! Random operations, as the model takes them and as a server is asked for them.

use etcd_client::{Client, Compare, CompareOp, DeleteOptions, Error, LeaseGrantOptions, PutOptions, TxnOp};

use super::super::support::random::Random;
use super::model::{Guard, Model, Relation, Step, Subject, Txn};

/// Few, so that they are overwritten, deleted and made again; with bytes that are next to each other and at the ends.
const KEYS: [&[u8]; 20] = [
    b"\0",
    b"\0\0",
    b"\x01",
    b"/",
    b"/a",
    b"/a/",
    b"/a/b",
    b"/a/b\0",
    b"/a/b\xff",
    b"/a/c",
    b"/b",
    b"a",
    b"aa",
    b"b",
    b"k0",
    b"k1",
    b"k2",
    b"\xc3\xa4",
    b"\xff",
    b"\xff\xff",
];
/// Long enough that no lease runs out by itself.
const TTL_SECONDS: i64 = 36_000;
/// The end of a range that has none.
const ALL: [u8; 1] = [0];

/// One thing that is asked of a server.
#[derive(Debug, Clone)]
pub enum Operation {
    Step(Step),
    Grant { lease: i64 },
    Revoke { lease: i64 },
    Compact { revision: i64, wait: bool },
    Defragment,
}

/// The next operation on what the model holds.
pub fn next(random: &mut Random, model: &Model) -> Operation {
    let leases: Vec<i64> = model.leases.keys().copied().collect();
    match random.below(100) {
        0..40 => Operation::Step(put(random, &leases)),
        40..54 => Operation::Step(delete(random)),
        54..78 => Operation::Step(Step::Txn(txn(random, model, &leases, 0))),
        78..85 => Operation::Grant {
            lease: i64::try_from(random.next() >> 1).expect("63 bits").max(1),
        },
        85..90 if !leases.is_empty() => Operation::Revoke {
            lease: *random.one_of(&leases),
        },
        90..97 => {
            let open = model.revision - model.compacted().max(0);
            match open > 1 {
                true => Operation::Compact {
                    revision: model.revision - i64::try_from(random.below(open as u64)).expect("it is small"),
                    wait: random.once_in(2),
                },
                false => Operation::Step(put(random, &leases)),
            }
        }
        97 => Operation::Defragment,
        _ => Operation::Step(Step::Delete {
            key: ALL.to_vec(),
            end: Some(ALL.to_vec()),
        }),
    }
}

fn key(random: &mut Random) -> Vec<u8> {
    random.one_of(&KEYS).to_vec()
}

fn value(random: &mut Random) -> Vec<u8> {
    let len = match random.below(40) {
        0 => 20_000,
        1..4 => 0,
        _ => 1 + random.below(400),
    };
    let byte = random.next().to_le_bytes()[0];
    (0..len).map(|at| byte.wrapping_add(at.to_le_bytes()[0])).collect()
}

fn put(random: &mut Random, leases: &[i64]) -> Step {
    let lease = match random.below(4) {
        0 if !leases.is_empty() => *random.one_of(leases),
        _ => 0,
    };
    Step::Put {
        key: key(random),
        value: value(random),
        lease,
    }
}

fn delete(random: &mut Random) -> Step {
    let end = match random.below(4) {
        0 => Some(key(random)),
        1 if random.once_in(3) => Some(ALL.to_vec()),
        _ => None,
    };
    Step::Delete { key: key(random), end }
}

fn txn(random: &mut Random, model: &Model, leases: &[i64], depth: u32) -> Txn {
    let guards = random.below(3);
    let branch = |random: &mut Random| {
        let steps = random.below(5);
        let steps = (0..steps).map(|_| match random.below(10) {
            0..5 => put(random, leases),
            5..7 => match delete(random) {
                // Etcd takes a put of a key that such a deletion has just removed, loses it in a compaction at exactly that
                // revision, and ends at the next read of it.
                Step::Delete { end: Some(end), .. } if end == ALL => put(random, leases),
                step => step,
            },
            7 => Step::Get { key: key(random) },
            _ if depth < 3 => Step::Txn(txn(random, model, leases, depth + 1)),
            _ => put(random, leases),
        });
        steps.collect()
    };
    Txn {
        guards: (0..guards).map(|_| guard(random, model)).collect(),
        then: branch(random),
        otherwise: branch(random),
    }
}

fn guard(random: &mut Random, model: &Model) -> Guard {
    let key = key(random);
    let entry = model.live.get(&key);
    // Every other time what is there, so that both branches are taken.
    let near = |random: &mut Random, there: i64| there + i64::from(random.once_in(2));
    let subject = match random.below(5) {
        0 => Subject::Version(near(random, entry.map_or(0, |entry| entry.version))),
        1 => Subject::Created(near(random, entry.map_or(0, |entry| entry.create_revision))),
        2 => Subject::Modified(near(random, entry.map_or(0, |entry| entry.mod_revision))),
        3 => Subject::Lease(near(random, entry.map_or(0, |entry| entry.lease))),
        _ => Subject::Value(match entry {
            Some(entry) if random.once_in(2) => entry.value.clone(),
            _ => value(random),
        }),
    };
    let relations = [Relation::Equal, Relation::Greater, Relation::Less, Relation::NotEqual];
    Guard {
        key,
        subject,
        relation: *random.one_of(&relations),
    }
}

/// Asks a server for it. Where it is refused, the model does not take it either.
pub async fn ask(client: &mut Client, operation: &Operation, model: &mut Model) -> Result<(), Error> {
    let revision = match operation {
        Operation::Step(step) => {
            let (revision, succeeded) = match asked_step(client, step).await {
                Ok(answer) => answer,
                // What may not stand together in a transaction is the server's to know.
                Err(Error::GRpcStatus(status)) if status.message().contains("duplicate key") => return Ok(()),
                Err(error) => return Err(error),
            };
            if let (Step::Txn(txn), Some(succeeded)) = (step, succeeded) {
                assert_eq!(
                    succeeded,
                    model.holds(txn),
                    "a branch was taken that does not hold: {txn:?}"
                );
            }
            model.apply(std::slice::from_ref(step));
            revision
        }
        Operation::Grant { lease } => {
            let id = Some(LeaseGrantOptions::new().with_id(*lease));
            client.lease_grant(TTL_SECONDS, id).await?;
            model.leases.insert(*lease, TTL_SECONDS);
            None
        }
        Operation::Revoke { lease } => {
            let answer = client.lease_revoke(*lease).await?;
            model.revoke(*lease);
            answer.header().map(etcd_client::ResponseHeader::revision)
        }
        Operation::Compact { revision, wait } => {
            let options = wait.then(|| etcd_client::CompactionOptions::new().with_physical());
            client.compact(*revision, options).await?;
            model.compactions.push(*revision);
            None
        }
        Operation::Defragment => {
            client.defragment().await?;
            None
        }
    };
    if let Some(revision) = revision {
        assert_eq!(revision, model.revision, "after {operation:?}");
    }
    Ok(())
}

async fn asked_step(client: &mut Client, step: &Step) -> Result<(Option<i64>, Option<bool>), Error> {
    let revision = |header: Option<&etcd_client::ResponseHeader>| header.map(etcd_client::ResponseHeader::revision);
    Ok(match step {
        Step::Put { key, value, lease } => {
            let options = PutOptions::new().with_lease(*lease);
            let answer = client.put(key.clone(), value.clone(), Some(options)).await?;
            (revision(answer.header()), None)
        }
        Step::Delete { key, end } => {
            let answer = client.delete(key.clone(), options_of(end.as_deref())).await?;
            (revision(answer.header()), None)
        }
        Step::Get { key } => {
            let answer = client.get(key.clone(), None).await?;
            (revision(answer.header()), None)
        }
        Step::Txn(txn) => {
            let answer = client.txn(request(txn)).await?;
            (revision(answer.header()), Some(answer.succeeded()))
        }
    })
}

fn request(txn: &Txn) -> etcd_client::Txn {
    let guards: Vec<_> = txn.guards.iter().map(compare).collect();
    let steps = |steps: &[Step]| steps.iter().map(operation).collect::<Vec<_>>();
    let request = etcd_client::Txn::new().when(guards);
    request.and_then(steps(&txn.then)).or_else(steps(&txn.otherwise))
}

fn operation(step: &Step) -> TxnOp {
    match step {
        Step::Put { key, value, lease } => {
            TxnOp::put(key.clone(), value.clone(), Some(PutOptions::new().with_lease(*lease)))
        }
        Step::Delete { key, end } => TxnOp::delete(key.clone(), options_of(end.as_deref())),
        Step::Get { key } => TxnOp::get(key.clone(), None),
        Step::Txn(txn) => TxnOp::txn(request(txn)),
    }
}

fn options_of(end: Option<&[u8]>) -> Option<DeleteOptions> {
    end.map(|end| DeleteOptions::new().with_range(end))
}

fn compare(guard: &Guard) -> Compare {
    let how = match guard.relation {
        Relation::Equal => CompareOp::Equal,
        Relation::Greater => CompareOp::Greater,
        Relation::Less => CompareOp::Less,
        Relation::NotEqual => CompareOp::NotEqual,
    };
    let key = guard.key.clone();
    match &guard.subject {
        Subject::Version(number) => Compare::version(key, how, *number),
        Subject::Created(number) => Compare::create_revision(key, how, *number),
        Subject::Modified(number) => Compare::mod_revision(key, how, *number),
        Subject::Lease(number) => Compare::lease(key, how, *number),
        Subject::Value(value) => Compare::value(key, how, value.clone()),
    }
}
