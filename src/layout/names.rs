//! Object names: what each path inside a store means.
//!
//! A path is relative to the store's folder for one cluster (`CLUSTER/` of the contract). Which folder that is, and how
//! it is read, is left to `store`.
//!
//! ```text
//! store.json                              the store's marker
//! signers.json                            who may sign, by the word of a root key
//! lineages/00000001.json                  the operator's word on lineages; the highest number counts
//! CLUSTER_ID/CHAIN/full.db.zst.age        one snapshot, compressed and encrypted
//! CLUSTER_ID/CHAIN/full-REVISION.json     its manifest; REVISION has 20 digits
//! CLUSTER_ID/CHAIN/epochs/EPOCH.json      who writes the chain's deltas; EPOCH has 8 digits, the highest counts
//! CLUSTER_ID/CHAIN/FROM-TO.EPOCH.delta    all changes of these revisions, both included; revisions have 20 digits
//! CLUSTER_ID/CHAIN/FROM-TO.EPOCH.pack     deltas as they were, one behind the other
//! CLUSTER_ID/CHAIN/TO-TIME.EPOCH.mark     nothing was written from TO until TIME
//! CLUSTER_ID/CHAIN/FROM.EPOCH.gap         FROM and what follows is not in this chain
//! CLUSTER_ID/CHAIN/pin.json               present: pinned
//! CLUSTER_ID/CHAIN/checks/TIME-HOST.json  the result of a check
//! slots/SCHEDULE/TIME.N.json              who takes a slot; the highest N counts
//! canary/HOST                             a trial write
//! ```
//!
//! Invariant: `ObjectName` prints as it parses; a path that does not print back to itself is foreign.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::HostName;
use crate::model::{ChainId, ClusterId, Invalid, Revision, ScheduleName};

const FULL: &str = "full.db.zst.age";
const SLOTS: &str = "slots";
const EPOCHS: &str = "epochs";
const COMPACT_UTC: &str = "%Y%m%dT%H%M%SZ";

/// A chain's place in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainPath {
    /// The cluster whose keys it holds.
    pub cluster: ClusterId,
    /// The chain.
    pub chain: ChainId,
}

impl fmt::Display for ChainPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.chain)
    }
}

/// The time of one writer of a chain's deltas: counted from 1 in each chain, never begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The last one that has a name: eight digits.
    pub const LAST: Epoch = Epoch(99_999_999);
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}", self.0)
    }
}

/// Revisions that follow each other, both ends included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    from: Revision,
    to: Revision,
}

impl Span {
    /// The revisions `from` to `to`; none where `to` is before `from`.
    pub fn new(from: Revision, to: Revision) -> Option<Span> {
        (from <= to).then_some(Span { from, to })
    }

    /// The first.
    pub fn from(self) -> Revision {
        self.from
    }

    /// The last.
    pub fn to(self) -> Revision {
        self.to
    }

    /// The first of its revisions that none of `within` holds, as they are read one after the other.
    pub fn first_lacking(self, within: impl IntoIterator<Item = Span>) -> Option<Revision> {
        let mut next = self.from;
        for span in within.into_iter().filter(|span| span.to >= self.from) {
            if span.from > next {
                break;
            }
            next = next.max(span.to.next());
        }
        (next <= self.to).then_some(next)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from.padded(), self.to.padded())
    }
}

/// One slot of a schedule, as it stands in object names: to the second.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotPath {
    schedule: ScheduleName,
    second: Timestamp,
}

impl SlotPath {
    /// The slot of `schedule` at `instant`, whose fraction of a second is dropped: a schedule has at most one slot a second.
    pub fn new(schedule: ScheduleName, instant: Timestamp) -> Self {
        let second = Timestamp::from_second(instant.as_nanosecond().div_euclid(1_000_000_000) as i64);
        SlotPath {
            schedule,
            second: second.unwrap_or(instant),
        }
    }

    /// The schedule.
    pub fn schedule(&self) -> &ScheduleName {
        &self.schedule
    }

    /// Its instant, to the second.
    pub fn instant(&self) -> Timestamp {
        self.second
    }
}

impl fmt::Display for SlotPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.second.to_zoned(TimeZone::UTC);
        write!(f, "{SLOTS}/{}/{}", self.schedule, second.strftime(COMPACT_UTC))
    }
}

/// The name of an object that this program writes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// `store.json`: tells one store from another.
    StoreMarker,
    /// `signers.json`: who may sign.
    Signers,
    /// `lineages/NUMBER.json`: which lineage the operator accepted.
    Acceptance(u32),
    /// The snapshot of a full backup.
    Full(ChainPath),
    /// The manifest of a full backup, and the revision it holds.
    FullManifest(ChainPath, Revision),
    /// Who writes the deltas of a chain from some revision on.
    Epoch(ChainPath, Epoch),
    /// All changes of some revisions.
    Delta(ChainPath, Span, Epoch),
    /// Deltas, one behind the other.
    Pack(ChainPath, Span, Epoch),
    /// Nothing was written from that revision until that time (whole seconds).
    Mark(ChainPath, Revision, Timestamp, Epoch),
    /// The end of a chain, from that revision on, and why.
    Gap(ChainPath, Revision, Epoch),
    /// The mark that excludes a chain from retention.
    Pin(ChainPath),
    /// The result of a check, by time (whole seconds) and host.
    Check(ChainPath, Timestamp, HostName),
    /// A trial write of a host.
    Canary(HostName),
    /// A claim of a slot, by number.
    Claim(SlotPath, u32),
}

impl ObjectName {
    /// The chain that the object belongs to, if it belongs to one.
    pub fn chain(&self) -> Option<&ChainPath> {
        match self {
            ObjectName::Full(chain)
            | ObjectName::FullManifest(chain, _)
            | ObjectName::Epoch(chain, _)
            | ObjectName::Delta(chain, ..)
            | ObjectName::Pack(chain, ..)
            | ObjectName::Mark(chain, ..)
            | ObjectName::Gap(chain, ..)
            | ObjectName::Pin(chain)
            | ObjectName::Check(chain, _, _) => Some(chain),
            ObjectName::StoreMarker
            | ObjectName::Signers
            | ObjectName::Acceptance(_)
            | ObjectName::Canary(_)
            | ObjectName::Claim(..) => None,
        }
    }

    /// The chain that it is a check of, and when that was made; none if it is no check.
    pub fn check(&self) -> Option<(&ChainPath, Timestamp)> {
        match self {
            ObjectName::Check(chain, time, _) => Some((chain, *time)),
            ObjectName::StoreMarker
            | ObjectName::Signers
            | ObjectName::Acceptance(_)
            | ObjectName::Full(_)
            | ObjectName::FullManifest(..)
            | ObjectName::Epoch(..)
            | ObjectName::Delta(..)
            | ObjectName::Pack(..)
            | ObjectName::Mark(..)
            | ObjectName::Gap(..)
            | ObjectName::Pin(_)
            | ObjectName::Canary(_)
            | ObjectName::Claim(..) => None,
        }
    }
}

impl ObjectName {
    /// The revisions whose changes it holds; none if it holds no changes.
    pub fn span(&self) -> Option<Span> {
        match self {
            ObjectName::Delta(_, span, _) | ObjectName::Pack(_, span, _) => Some(*span),
            ObjectName::StoreMarker
            | ObjectName::Signers
            | ObjectName::Acceptance(_)
            | ObjectName::Full(_)
            | ObjectName::FullManifest(..)
            | ObjectName::Epoch(..)
            | ObjectName::Mark(..)
            | ObjectName::Gap(..)
            | ObjectName::Pin(_)
            | ObjectName::Check(..)
            | ObjectName::Canary(_)
            | ObjectName::Claim(..) => None,
        }
    }

    /// The epoch under which it was written; none of what is of none.
    pub fn epoch(&self) -> Option<Epoch> {
        match self {
            ObjectName::Epoch(_, epoch)
            | ObjectName::Delta(_, _, epoch)
            | ObjectName::Pack(_, _, epoch)
            | ObjectName::Mark(_, _, _, epoch)
            | ObjectName::Gap(_, _, epoch) => Some(*epoch),
            ObjectName::StoreMarker
            | ObjectName::Signers
            | ObjectName::Acceptance(_)
            | ObjectName::Full(_)
            | ObjectName::FullManifest(..)
            | ObjectName::Pin(_)
            | ObjectName::Check(..)
            | ObjectName::Canary(_)
            | ObjectName::Claim(..) => None,
        }
    }

    /// Whether it is of what follows a full backup in its chain: changes, and words about them.
    pub fn is_link(&self) -> bool {
        self.span().is_some() || matches!(self, ObjectName::Epoch(..) | ObjectName::Mark(..) | ObjectName::Gap(..))
    }

    /// Whether it makes a backup: no other object does.
    pub fn is_manifest(&self) -> bool {
        matches!(self, ObjectName::FullManifest(..))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectName::StoreMarker => f.write_str("store.json"),
            ObjectName::Signers => f.write_str("signers.json"),
            ObjectName::Acceptance(number) => write!(f, "lineages/{number:08}.json"),
            ObjectName::Full(chain) => write!(f, "{chain}/{FULL}"),
            ObjectName::FullManifest(chain, revision) => write!(f, "{chain}/full-{}.json", revision.padded()),
            ObjectName::Epoch(chain, epoch) => write!(f, "{chain}/{EPOCHS}/{epoch}.json"),
            ObjectName::Delta(chain, span, epoch) => write!(f, "{chain}/{span}.{epoch}.delta"),
            ObjectName::Pack(chain, span, epoch) => write!(f, "{chain}/{span}.{epoch}.pack"),
            ObjectName::Mark(chain, to, time, epoch) => {
                let time = time.to_zoned(TimeZone::UTC);
                write!(f, "{chain}/{}-{}.{epoch}.mark", to.padded(), time.strftime(COMPACT_UTC))
            }
            ObjectName::Gap(chain, from, epoch) => write!(f, "{chain}/{}.{epoch}.gap", from.padded()),
            ObjectName::Pin(chain) => write!(f, "{chain}/pin.json"),
            ObjectName::Check(chain, time, host) => {
                let time = time.to_zoned(TimeZone::UTC);
                write!(f, "{chain}/checks/{}-{host}.json", time.strftime(COMPACT_UTC))
            }
            ObjectName::Canary(host) => write!(f, "canary/{host}"),
            ObjectName::Claim(slot, number) => write!(f, "{slot}.{number}.json"),
        }
    }
}

impl FromStr for ObjectName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        // Printing back refuses every second spelling (padded ids, short revisions), so that one object has one name.
        parse_object(text)
            .filter(|name| name.to_string() == text)
            .ok_or_else(|| Invalid::new(text, "the name of an object of ours"))
    }
}

fn parse_object(text: &str) -> Option<ObjectName> {
    let parts: Vec<&str> = text.splitn(5, '/').collect();
    match parts.as_slice() {
        ["store.json"] => Some(ObjectName::StoreMarker),
        ["signers.json"] => Some(ObjectName::Signers),
        ["lineages", file] => file.strip_suffix(".json")?.parse().ok().map(ObjectName::Acceptance),
        ["canary", host] => host.parse().ok().map(ObjectName::Canary),
        [SLOTS, schedule, file] => {
            let (second, number) = file.strip_suffix(".json")?.split_once('.')?;
            let slot = SlotPath::new(schedule.parse().ok()?, parse_second(second)?);
            Some(ObjectName::Claim(slot, number.parse().ok()?))
        }
        [cluster, chain, file] => parse_in_chain(parse_chain_path(cluster, chain)?, file),
        [cluster, chain, EPOCHS, file] => {
            let epoch = file.strip_suffix(".json")?.parse().ok()?;
            Some(ObjectName::Epoch(parse_chain_path(cluster, chain)?, Epoch(epoch)))
        }
        [cluster, chain, "checks", file] => {
            let (time, host) = file.strip_suffix(".json")?.split_once('-')?;
            Some(ObjectName::Check(
                parse_chain_path(cluster, chain)?,
                parse_second(time)?,
                host.parse().ok()?,
            ))
        }
        _ => None,
    }
}

fn parse_second(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime(COMPACT_UTC, text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn parse_in_chain(chain: ChainPath, file: &str) -> Option<ObjectName> {
    match file {
        FULL => Some(ObjectName::Full(chain)),
        "pin.json" => Some(ObjectName::Pin(chain)),
        other => match other.strip_prefix("full-") {
            Some(revision) => {
                let revision = revision.strip_suffix(".json")?;
                Some(ObjectName::FullManifest(chain, revision.parse().ok()?))
            }
            None => parse_link(chain, other),
        },
    }
}

/// A delta, a pack, a mark or a gap.
fn parse_link(chain: ChainPath, file: &str) -> Option<ObjectName> {
    let (rest, kind) = file.rsplit_once('.')?;
    let (place, epoch) = rest.split_once('.')?;
    let epoch = Epoch(epoch.parse().ok()?);
    if kind == "gap" {
        return Some(ObjectName::Gap(chain, place.parse().ok()?, epoch));
    }
    let (first, second) = place.split_once('-')?;
    let first = first.parse().ok()?;
    if kind == "mark" {
        return Some(ObjectName::Mark(chain, first, parse_second(second)?, epoch));
    }
    let span = Span::new(first, second.parse().ok()?)?;
    match kind {
        "delta" => Some(ObjectName::Delta(chain, span, epoch)),
        "pack" => Some(ObjectName::Pack(chain, span, epoch)),
        _ => None,
    }
}

fn parse_chain_path(cluster: &str, chain: &str) -> Option<ChainPath> {
    let path = ChainPath {
        cluster: cluster.parse().ok()?,
        chain: chain.parse().ok()?,
    };
    (path.cluster.to_string() == cluster).then_some(path)
}

/// A folder in which objects of ours may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folder {
    /// `lineages`, `canary`, `slots`, one schedule's slots, or all chains of one cluster id.
    Shared,
    /// A chain's own folder, or one inside it.
    OfChain(ChainPath),
}

impl Folder {
    /// What the folder at `path` is; none if it is not ours, and then nothing in it is either.
    pub fn at(path: &str) -> Option<Folder> {
        let parts: Vec<&str> = path.splitn(4, '/').collect();
        match parts.as_slice() {
            ["lineages" | "canary" | SLOTS] => Some(Folder::Shared),
            [SLOTS, schedule] => schedule.parse::<ScheduleName>().ok().map(|_| Folder::Shared),
            [cluster] => {
                let id: ClusterId = cluster.parse().ok()?;
                (id.to_string() == *cluster).then_some(Folder::Shared)
            }
            [cluster, chain] | [cluster, chain, "checks" | EPOCHS] => {
                parse_chain_path(cluster, chain).map(Folder::OfChain)
            }
            _ => None,
        }
    }
}

/// What an entry of a listing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object of ours.
    Ours(ObjectName),
    /// An object of ours that was being written; nobody reads it.
    Partial {
        /// Where it lies.
        path: String,
        /// What it would have become.
        of: ObjectName,
    },
    /// A folder of ours with nothing in it.
    EmptyFolder {
        /// Where it lies.
        path: String,
        /// What it is.
        folder: Folder,
    },
    /// Anything else: reported, never touched.
    Foreign(String),
    /// Something that could not be looked into or at. What is in it is not known.
    Unreadable {
        /// Where it lies.
        path: String,
        /// What the store said.
        why: String,
    },
}

impl Listed {
    /// What the file at `path` is, if it was not being written.
    pub fn file(path: &str) -> Listed {
        match path.parse() {
            Ok(name) => Listed::Ours(name),
            Err(Invalid { .. }) => Listed::Foreign(path.to_owned()),
        }
    }
}

/// One entry of a store's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedObject {
    /// What it is.
    pub name: Listed,
    /// How large it is.
    pub bytes: u64,
    /// When it was last written, by the store's clock.
    pub modified: Timestamp,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn chain_path(cluster: u64, chain: &str) -> ChainPath {
        ChainPath {
            cluster: ClusterId(cluster),
            chain: chain.parse().unwrap(),
        }
    }

    pub(crate) fn span(from: i64, to: i64) -> Span {
        Span::new(Revision::new(from).unwrap(), Revision::new(to).unwrap()).unwrap()
    }

    #[test]
    fn names_are_those_of_the_contract() {
        let chain = chain_path(0x0cdf_8181, "20261120T101530Z-9f3c4a1b");
        let host: HostName = "etcd-1.example".parse().unwrap();
        let time = "2026-11-21T00:00:07.25Z".parse().unwrap();
        let revision = Revision::new(4711).unwrap();
        for (name, text) in [
            (ObjectName::StoreMarker, "store.json"),
            (ObjectName::Acceptance(1), "lineages/00000001.json"),
            (
                ObjectName::Full(chain.clone()),
                "cdf8181/20261120T101530Z-9f3c4a1b/full.db.zst.age",
            ),
            (
                ObjectName::FullManifest(chain.clone(), revision),
                "cdf8181/20261120T101530Z-9f3c4a1b/full-00000000000000004711.json",
            ),
            (
                ObjectName::Epoch(chain.clone(), Epoch(2)),
                "cdf8181/20261120T101530Z-9f3c4a1b/epochs/00000002.json",
            ),
            (
                ObjectName::Delta(chain.clone(), span(4712, 5000), Epoch(1)),
                "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004712-00000000000000005000.00000001.delta",
            ),
            (
                ObjectName::Pack(chain.clone(), span(4712, 4712), Epoch(1)),
                "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004712-00000000000000004712.00000001.pack",
            ),
            (
                ObjectName::Mark(chain.clone(), revision, time, Epoch(3)),
                "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711-20261121T000007Z.00000003.mark",
            ),
            (
                ObjectName::Gap(chain.clone(), revision, Epoch(1)),
                "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711.00000001.gap",
            ),
            (
                ObjectName::Pin(chain.clone()),
                "cdf8181/20261120T101530Z-9f3c4a1b/pin.json",
            ),
            (
                ObjectName::Check(chain, time, host.clone()),
                "cdf8181/20261120T101530Z-9f3c4a1b/checks/20261121T000007Z-etcd-1.example.json",
            ),
            (ObjectName::Canary(host), "canary/etcd-1.example"),
            (
                ObjectName::Claim(SlotPath::new("hourly".parse().unwrap(), time), 12),
                "slots/hourly/20261121T000007Z.12.json",
            ),
        ] {
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_is_not_exactly_ours_is_foreign() {
        for path in [
            "",
            "/store.json",
            "store.json/",
            "store.JSON",
            "lineages/1.json",
            "lineages/+0000001.json",
            "lineages/000000001.json",
            "canary/",
            "canary/.hidden",
            "canary/../store.json",
            "cdf8181/full.db.zst.age",
            "CDF8181/20261120T101530Z-9f3c4a1b/full.db.zst.age",
            "0cdf8181/20261120T101530Z-9f3c4a1b/full.db.zst.age",
            "cdf8181/20261120T101530Z-9f3c4a1b/full-4711.json",
            "cdf8181/20261120T101530Z-9f3c4a1b/full-00000000000000004711.json.bak",
            "cdf8181/20261120T101530Z-9f3c4a1b/full-99999999999999999999.json",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711-00000000000000004712.delta.zst.age",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711-00000000000000004712.json",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004712-00000000000000004711.00000001.delta",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711-00000000000000004712.1.delta",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711-00000000000000004712.delta",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711.00000001.mark",
            "cdf8181/20261120T101530Z-9f3c4a1b/00000000000000004711-00000000000000004712.00000001.gap",
            "cdf8181/20261120T101530Z-9f3c4a1b/epochs/1.json",
            "cdf8181/20261120T101530Z-9f3c4a1b/checks/20261121T000007Z-.json",
            "cdf8181/20261120T101530Z-9f3c4a1b/checks/x/20261121T000007Z-a.json",
            "slots/hourly/20261120T100000Z.01.json",
            "slots/hourly/20261120T100000Z.json",
            "slots/hourly/20261120T100000Z.1.json.bak",
            "slots/../20261120T100000Z.1.json",
            "slots/hourly/deeper/20261120T100000Z.1.json",
            "plans/a.json",
        ] {
            assert_eq!(Listed::file(path), Listed::Foreign(path.to_owned()), "{path}");
        }
    }

    #[test]
    fn only_folders_of_ours_are_entered() {
        let chain = chain_path(0xab, "20261120T101530Z-9f3c4a1b");
        for (path, folder) in [
            ("lineages", Some(Folder::Shared)),
            ("canary", Some(Folder::Shared)),
            ("ab", Some(Folder::Shared)),
            ("ab/20261120T101530Z-9f3c4a1b", Some(Folder::OfChain(chain.clone()))),
            ("ab/20261120T101530Z-9f3c4a1b/checks", Some(Folder::OfChain(chain))),
            ("", None),
            ("00ab", None),
            ("lost+found", None),
            ("slots", Some(Folder::Shared)),
            ("slots/hourly", Some(Folder::Shared)),
            ("slots/Hourly", None),
            ("slots/hourly/deeper", None),
            ("plans", None),
            ("ab/other", None),
            ("lineages/ab", None),
            ("ab/20261120T101530Z-9f3c4a1b/checks/deeper", None),
        ] {
            assert_eq!(Folder::at(path), folder, "{path}");
        }
    }

    #[test]
    fn any_host_has_a_legal_name() {
        for (text, name) in [
            ("node-1.a", "node-1.a"),
            ("", "-"),
            (".x", "-.x"),
            ("a/b c", "a-b-c"),
            ("ü", "-"),
        ] {
            assert_eq!(HostName::nearest(text).as_str(), name);
        }
    }

    pub(crate) fn any_chain() -> impl Strategy<Value = ChainId> {
        (0_i64..4_000_000_000, any::<u32>())
            .prop_map(|(second, random)| ChainId::new(Timestamp::from_second(second).unwrap(), random))
    }

    fn any_name() -> impl Strategy<Value = ObjectName> {
        let path = (any::<u64>(), any_chain()).prop_map(|(cluster, chain)| ChainPath {
            cluster: ClusterId(cluster),
            chain,
        });
        let host = ".{0,200}".prop_map(|text| HostName::nearest(&text));
        (0..13, path, host, any::<u32>(), 0..=i64::MAX, 0_i64..4_000_000_000).prop_map(
            |(which, path, host, number, revision, second)| match which {
                0 => ObjectName::StoreMarker,
                1 => ObjectName::Acceptance(number % 100_000_000),
                2 => ObjectName::Full(path),
                3 => ObjectName::FullManifest(path, Revision::new(revision).unwrap()),
                4 => ObjectName::Pin(path),
                5 => ObjectName::Check(path, Timestamp::from_second(second).unwrap(), host),
                6 => ObjectName::Canary(host),
                8 => ObjectName::Epoch(path, Epoch(number % 100_000_000)),
                9 => ObjectName::Delta(path, span(revision / 2, revision), Epoch(number % 100_000_000)),
                10 => ObjectName::Pack(path, span(revision, revision), Epoch(number % 100_000_000)),
                11 => ObjectName::Mark(
                    path,
                    Revision::new(revision).unwrap(),
                    Timestamp::from_second(second).unwrap(),
                    Epoch(number % 100_000_000),
                ),
                12 => ObjectName::Gap(path, Revision::new(revision).unwrap(), Epoch(number % 100_000_000)),
                _ => {
                    let second = Timestamp::from_second(second).unwrap();
                    ObjectName::Claim(SlotPath::new("a-1".parse().unwrap(), second), number)
                }
            },
        )
    }

    proptest! {
        #[test]
        fn names_round_trip(name in any_name()) {
            prop_assert_eq!(name.to_string().parse::<ObjectName>(), Ok(name));
        }

        #[test]
        fn manifests_of_a_chain_list_in_order_of_their_revisions(a in 0..=i64::MAX, b in 0..=i64::MAX) {
            let name = |revision| {
                let chain = chain_path(1, "20261120T101530Z-9f3c4a1b");
                ObjectName::FullManifest(chain, Revision::new(revision).unwrap()).to_string()
            };
            prop_assert_eq!(a.cmp(&b), name(a).cmp(&name(b)));
        }

        #[test]
        fn any_text_is_ours_or_foreign(text in "[a-z0-9/.Z-]{0,80}") {
            match Listed::file(&text) {
                Listed::Ours(name) => prop_assert_eq!(name.to_string(), text),
                other => prop_assert_eq!(other, Listed::Foreign(text)),
            }
        }
    }
}
