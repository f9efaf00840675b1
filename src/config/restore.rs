//! `[restore]`: how backups are restored on a host.

use std::num::NonZeroU64;
use std::time::Duration;

use super::duration::duration;
use super::reader::Reader;
use super::section::Section;
use crate::restore::BumpRule;

/// How long a restored member may take to serve.
const HEALTH_TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(86_400);

/// `[restore]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// How long a restored member may take to serve, 10 s to 24 h.
    pub health_timeout: Duration,
    /// Whether revisions jump.
    pub bump_revision: BumpRule,
}

impl Default for Restore {
    fn default() -> Self {
        Restore {
            health_timeout: Duration::from_secs(300),
            bump_revision: BumpRule::Auto,
        }
    }
}

impl Reader<'_> {
    pub(super) fn restore(&mut self, root: &Section<'_>) -> Restore {
        let section = root.section("restore");
        let defaults = Restore::default();
        let health_timeout = section.text("health_timeout").and_then(|given| {
            let duration = duration(given.value).filter(|duration| HEALTH_TIMEOUTS.contains(duration));
            duration.or_else(|| self.refuse(&section, "health_timeout", &given))
        });
        let bump_revision = match section.text("bump_revision") {
            Some(text) => match text.value {
                "auto" => Some(BumpRule::Auto),
                "never" => Some(BumpRule::Never),
                _ => self.refuse(&section, "bump_revision", &text),
            },
            None => {
                let by = self.integer(&section, "bump_revision", 1, i32::MAX);
                by.and_then(|by| NonZeroU64::new(u64::from(by.cast_unsigned())))
                    .map(BumpRule::By)
            }
        };
        Restore {
            health_timeout: health_timeout.unwrap_or(defaults.health_timeout),
            bump_revision: bump_revision.unwrap_or(defaults.bump_revision),
        }
    }
}
