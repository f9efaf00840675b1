//! What an entry of the write-ahead log asks for: `etcdserverpb.InternalRaftRequest`, and the older `Request`.
//!
//! A field that is not known here makes the request one that cannot be executed: a later etcd may mean anything by it.
//!
//! Source of the format: etcd `api/etcdserverpb/{raft_internal,rpc,etcdserver}.proto` of 3.4 to 3.7.

use super::super::LeaseId;
use super::super::alarm::AlarmKind;
use super::super::wire::{Field, Fields, WireError};
use crate::model::MemberId;

/// How deep transactions may stand in each other; etcd's own clients are far from it.
const MAX_DEPTH: u32 = 64;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Caller<'a> {
    /// The user; empty where authentication is off, and for what etcd does by itself.
    pub user: &'a [u8],
    /// The revision of users and roles that the user logged in at.
    pub auth_revision: u64,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request<'a> {
    Put(Put<'a>),
    DeleteRange(Range<'a>),
    Txn(Txn<'a>),
    Compaction(i64),
    LeaseGrant {
        id: LeaseId,
        ttl_seconds: i64,
    },
    LeaseRevoke(LeaseId),
    LeaseCheckpoint(Vec<(LeaseId, i64)>),
    Alarm(AlarmAction),
    /// Nothing that a restore keeps: reads, log-ins, attributes of members, the version of the cluster.
    Nothing,
    /// Something that cannot be executed here.
    Unknown(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Put<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub lease: i64,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

/// One key, or keys from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Range<'a> {
    pub key: &'a [u8],
    /// Empty for one key, a zero byte for no end.
    pub end: &'a [u8],
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Txn<'a> {
    pub compares: Vec<Compare<'a>>,
    pub success: Vec<Op<'a>>,
    pub failure: Vec<Op<'a>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op<'a> {
    /// A read at a revision, 0 for the present one.
    Read(i64),
    Put(Put<'a>),
    DeleteRange(Range<'a>),
    Txn(Txn<'a>),
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compare<'a> {
    pub range: Range<'a>,
    pub relation: Relation,
    pub target: Target<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(&'a [u8]),
    Lease(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlarmAction {
    Get,
    Raise(MemberId, AlarmKind),
    Disarm(MemberId, AlarmKind),
}

/// Why a request cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    Wire(WireError),
    /// A field, an enum's value or a shape that is not known here.
    Unknown(&'static str),
}

impl From<WireError> for Unread {
    fn from(error: WireError) -> Unread {
        Unread::Wire(error)
    }
}

/// The request of an entry that is not empty.
pub(super) fn decode(data: &[u8]) -> (Caller<'_>, Request<'_>) {
    match internal(data) {
        Ok(read) => read,
        // Up to 3.5 members published their attributes in the form of the old v2 API, which the key space knows nothing of.
        Err(Unread::Wire(_)) if is_v2(data) => (Caller::default(), Request::Nothing),
        Err(Unread::Wire(_)) => (Caller::default(), Request::Unknown("it cannot be read")),
        Err(Unread::Unknown(what)) => (Caller::default(), Request::Unknown(what)),
    }
}

fn internal(data: &[u8]) -> Result<(Caller<'_>, Request<'_>), Unread> {
    let (mut caller, mut request) = (Caller::default(), None);
    for field in Fields::of(data) {
        let field = field?;
        let read = match field.number {
            1 => {
                field.uint64()?;
                continue;
            }
            100 => {
                caller = header(field.bytes()?)?;
                continue;
            }
            2 if is_v2(field.bytes()?) => Request::Nothing,
            2 => return Err(WireError::WrongType(2).into()),
            3 => checked(field, Request::Nothing)?,
            4 => Request::Put(put(field.bytes()?)?),
            5 => Request::DeleteRange(delete_range(field.bytes()?)?),
            6 => Request::Txn(txn(field.bytes()?, MAX_DEPTH)?),
            7 => Request::Compaction(compaction(field.bytes()?)?),
            8 => lease_grant(field.bytes()?)?,
            9 => Request::LeaseRevoke(lease_revoke(field.bytes()?)?),
            10 => Request::Alarm(alarm(field.bytes()?)?),
            11 => Request::LeaseCheckpoint(lease_checkpoint(field.bytes()?)?),
            1000 => checked(field, Request::Unknown("it switches authentication on"))?,
            1011 => checked(field, Request::Unknown("it switches authentication off"))?,
            // Status, log in, one user, all users, all roles, one role: nothing changes.
            1012 | 1013 | 1102 | 1106 | 1107 | 1202 => checked(field, Request::Nothing)?,
            1100 | 1101 | 1103..=1105 => checked(field, Request::Unknown("it changes a user"))?,
            1200 | 1201 | 1203 | 1204 => checked(field, Request::Unknown("it changes a role"))?,
            // The version of the cluster, attributes of a member, a downgrade: of the cluster that is left behind.
            1300..=1302 | 9900 => checked(field, Request::Nothing)?,
            _ => return Err(Unread::Unknown("it asks for something that a later etcd knows")),
        };
        if request.replace(read).is_some() {
            return Err(Unread::Unknown("it asks for two things"));
        }
    }
    Ok((caller, request.ok_or(Unread::Unknown("it asks for nothing"))?))
}

/// A message whose content is not looked at.
fn checked<'a>(field: Field<'_>, request: Request<'a>) -> Result<Request<'a>, Unread> {
    Fields::of(field.bytes()?).try_for_each(|field| field.map(drop))?;
    Ok(request)
}

/// Whether it is a request of the v2 API: `etcdserverpb.Request`.
fn is_v2(data: &[u8]) -> bool {
    let mut has_method = false;
    let all = Fields::of(data).all(|field| {
        let Ok(field) = field else { return false };
        has_method |= field.number == 2;
        match field.number {
            2..=4 | 6 => field.bytes().is_ok_and(|text| std::str::from_utf8(text).is_ok()),
            1 | 5 | 7..=17 => field.uint64().is_ok(),
            _ => false,
        }
    });
    all && has_method
}

fn unknown_field<T>() -> Result<T, Unread> {
    Err(Unread::Unknown("it has a field that a later etcd knows"))
}

fn header(message: &[u8]) -> Result<Caller<'_>, Unread> {
    let mut caller = Caller::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => drop(field.uint64()?),
            2 => caller.user = field.bytes()?,
            3 => caller.auth_revision = field.uint64()?,
            _ => return unknown_field(),
        }
    }
    Ok(caller)
}

fn put(message: &[u8]) -> Result<Put<'_>, Unread> {
    let mut put = Put::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => put.key = field.bytes()?,
            2 => put.value = field.bytes()?,
            3 => put.lease = field.int64()?,
            // Whether the former value is wanted.
            4 => drop(field.uint64()?),
            5 => put.ignore_value = field.uint64()? != 0,
            6 => put.ignore_lease = field.uint64()? != 0,
            _ => return unknown_field(),
        }
    }
    Ok(put)
}

fn delete_range(message: &[u8]) -> Result<Range<'_>, Unread> {
    let mut range = Range::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => range.key = field.bytes()?,
            2 => range.end = field.bytes()?,
            3 => drop(field.uint64()?),
            _ => return unknown_field(),
        }
    }
    Ok(range)
}

fn txn(message: &[u8], depth: u32) -> Result<Txn<'_>, Unread> {
    let depth = depth
        .checked_sub(1)
        .ok_or(Unread::Unknown("its transactions stand too deep in each other"))?;
    let mut txn = Txn::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => txn.compares.push(compare(field.bytes()?)?),
            2 => txn.success.push(op(field.bytes()?, depth)?),
            3 => txn.failure.push(op(field.bytes()?, depth)?),
            _ => return unknown_field(),
        }
    }
    Ok(txn)
}

fn op(message: &[u8], depth: u32) -> Result<Op<'_>, Unread> {
    let mut op = Op::Empty;
    for field in Fields::of(message) {
        let field = field?;
        op = match field.number {
            1 => Op::Read(read_revision(field.bytes()?)?),
            2 => Op::Put(put(field.bytes()?)?),
            3 => Op::DeleteRange(delete_range(field.bytes()?)?),
            4 => Op::Txn(txn(field.bytes()?, depth)?),
            _ => return unknown_field(),
        };
    }
    Ok(op)
}

fn read_revision(message: &[u8]) -> Result<i64, Unread> {
    let mut revision = 0;
    for field in Fields::of(message) {
        let field = field?;
        if field.number == 4 {
            revision = field.int64()?;
        }
    }
    Ok(revision)
}

fn compare(message: &[u8]) -> Result<Compare<'_>, Unread> {
    let (mut range, mut relation, mut kind) = (Range::default(), 0, 0);
    let (mut number, mut value) = ((0, 0), &[][..]);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => relation = field.uint64()?,
            2 => kind = field.uint64()?,
            3 => range.key = field.bytes()?,
            4..=6 | 8 => number = (field.number, field.int64()?),
            7 => (number, value) = ((7, 0), field.bytes()?),
            64 => range.end = field.bytes()?,
            _ => return unknown_field(),
        }
    }
    let relation = match relation {
        0 => Relation::Equal,
        1 => Relation::Greater,
        2 => Relation::Less,
        3 => Relation::NotEqual,
        _ => return Err(Unread::Unknown("it compares in a way that a later etcd knows")),
    };
    // What is set is compared only where it is the target; else with zero.
    let of = |field| if number.0 == field { number.1 } else { 0 };
    let target = match kind {
        0 => Target::Version(of(4)),
        1 => Target::Create(of(5)),
        2 => Target::Mod(of(6)),
        3 => Target::Value(if number.0 == 7 { value } else { b"" }),
        4 => Target::Lease(of(8)),
        _ => return Err(Unread::Unknown("it compares something that a later etcd knows")),
    };
    Ok(Compare {
        range,
        relation,
        target,
    })
}

fn compaction(message: &[u8]) -> Result<i64, Unread> {
    let mut revision = 0;
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => revision = field.int64()?,
            2 => drop(field.uint64()?),
            _ => return unknown_field(),
        }
    }
    Ok(revision)
}

fn lease_grant(message: &[u8]) -> Result<Request<'_>, Unread> {
    let (mut id, mut ttl_seconds) = (LeaseId(0), 0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => ttl_seconds = field.int64()?,
            2 => id = LeaseId(field.int64()?),
            _ => return unknown_field(),
        }
    }
    Ok(Request::LeaseGrant { id, ttl_seconds })
}

fn lease_revoke(message: &[u8]) -> Result<LeaseId, Unread> {
    let mut id = LeaseId(0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => id = LeaseId(field.int64()?),
            _ => return unknown_field(),
        }
    }
    Ok(id)
}

fn lease_checkpoint(message: &[u8]) -> Result<Vec<(LeaseId, i64)>, Unread> {
    let mut checkpoints = Vec::new();
    for field in Fields::of(message) {
        let field = field?;
        if field.number != 1 {
            return unknown_field();
        }
        let (mut id, mut remaining) = (LeaseId(0), 0);
        for field in Fields::of(field.bytes()?) {
            let field = field?;
            match field.number {
                1 => id = LeaseId(field.int64()?),
                2 => remaining = field.int64()?,
                _ => return unknown_field(),
            }
        }
        checkpoints.push((id, remaining));
    }
    Ok(checkpoints)
}

fn alarm(message: &[u8]) -> Result<AlarmAction, Unread> {
    let (mut action, mut member, mut kind) = (0, 0, 0);
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            1 => action = field.uint64()?,
            2 => member = field.uint64()?,
            3 => kind = field.uint64()?,
            _ => return unknown_field(),
        }
    }
    let (member, kind) = (MemberId(member), AlarmKind::of(kind));
    Ok(match action {
        0 => AlarmAction::Get,
        1 => AlarmAction::Raise(member, kind),
        2 => AlarmAction::Disarm(member, kind),
        _ => return Err(Unread::Unknown("it does with an alarm what a later etcd knows")),
    })
}

impl<'a> Txn<'a> {
    /// Whether anything in it may change the key space, as etcd tells: whatever is no read at its top.
    pub(super) fn has_put(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Put(_) => true,
            Op::Txn(txn) => txn.has_put(),
            Op::Read(_) | Op::DeleteRange(_) | Op::Empty => false,
        })
    }

    /// Shows every operation and compare in it, of both branches.
    pub(super) fn visit(&self, compare: &mut impl FnMut(&Compare<'a>), op: &mut impl FnMut(&Op<'a>)) {
        self.compares.iter().for_each(&mut *compare);
        for inner in self.success.iter().chain(&self.failure) {
            op(inner);
            if let Op::Txn(txn) = inner {
                txn.visit(compare, op);
            }
        }
    }
}
