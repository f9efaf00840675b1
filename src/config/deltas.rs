//! `[deltas]`: whether and how the changes behind a full backup are captured.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::file::Value;
use super::reader::Reader;
use super::section::Section;
use super::{Destination, DestinationName};
use crate::model::ByteSize;

/// `[deltas]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deltas {
    /// Whether changes are captured at all.
    pub enabled: bool,
    /// How often what has changed becomes a delta, 1 s to 1 h.
    pub every: Duration,
    /// How many bytes of changes become a delta before that.
    pub max_bytes: ByteSize,
    /// Where deltas go; all destinations where nothing is said.
    pub destinations: BTreeSet<DestinationName>,
    /// How much may wait on this host for its destinations.
    pub spool: ByteSize,
    /// How often it is said that nothing was written.
    pub mark_every: Duration,
    /// After how long deltas are put together into packs.
    pub pack_after: Duration,
    /// How often a member's hash is kept beside the changes.
    pub hash_kv_every: Duration,
}

impl Default for Deltas {
    fn default() -> Self {
        Deltas {
            enabled: false,
            every: Duration::from_secs(10),
            max_bytes: ByteSize(4 << 20),
            destinations: BTreeSet::new(),
            spool: ByteSize(1 << 30),
            mark_every: Duration::from_secs(60),
            pack_after: Duration::from_secs(3600),
            hash_kv_every: Duration::from_secs(3600),
        }
    }
}

const SECOND_TO_HOUR: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
const MINUTE_TO_WEEK: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(168 * 3600);
/// A delta is in memory while it is made; and one of less than this is hardly meant.
const MAX_BYTES: RangeInclusive<u64> = 64 << 10..=64 << 20;
const SPOOLS: RangeInclusive<u64> = 16 << 20..=1 << 40;

impl Reader<'_> {
    /// `destinations` are those that are switched on.
    pub(super) fn deltas(
        &mut self,
        root: &Section<'_>,
        destinations: &BTreeMap<DestinationName, Destination>,
    ) -> Deltas {
        let section = root.section("deltas");
        let defaults = Deltas::default();
        let enabled = section.given("enabled");
        let deltas = Deltas {
            enabled: enabled.is_some_and(|given| matches!(given.value.value, Value::Boolean(true))),
            every: self.within(&section, "every", SECOND_TO_HOUR).unwrap_or(defaults.every),
            max_bytes: self
                .size(&section, "max_bytes", MAX_BYTES)
                .unwrap_or(defaults.max_bytes),
            destinations: self.chosen(&section, destinations),
            spool: self.size(&section, "spool", SPOOLS).unwrap_or(defaults.spool),
            mark_every: self
                .within(&section, "mark_every", SECOND_TO_HOUR)
                .unwrap_or(defaults.mark_every),
            pack_after: self
                .within(&section, "pack_after", MINUTE_TO_WEEK)
                .unwrap_or(defaults.pack_after),
            hash_kv_every: self
                .within(&section, "hash_kv_every", MINUTE_TO_WEEK)
                .unwrap_or(defaults.hash_kv_every),
        };
        if deltas.enabled
            && let Some(given) = section.given("spool")
            && deltas.spool.0 < deltas.max_bytes.0.saturating_mul(4)
        {
            let message = format!(
                "`{}`: {} is hardly more than the {} of one delta",
                given.path, deltas.spool, deltas.max_bytes
            );
            self.warnings.at(given.origin, &message);
        }
        deltas
    }

    fn size(&mut self, section: &Section<'_>, name: &str, range: RangeInclusive<u64>) -> Option<ByteSize> {
        let given = section.text(name)?;
        let size = given
            .value
            .parse()
            .ok()
            .filter(|size: &ByteSize| range.contains(&size.0));
        size.or_else(|| self.refuse(section, name, &given))
    }
}
