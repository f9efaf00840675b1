//! What is to be said of a plan before it is carried out, and of a restore that was taken back.

use crate::etcd_settings::Change;
use crate::jobs::{Exit, Failure};
use crate::model::ByteSize;
use crate::rebuild::{Rewrite, Rewritten};
use crate::restore::{Ledger, OverQuota, Plan, made_path};

/// What to do where etcd is older than the backup.
const SHOULD_BE_NEWER: &str =
    "install the newer one first, or set `etcd_version` in [host] to have the data made for the older";

/// What is to be said before it is known whether etcd will take writes: the backup is over its quota as it is.
pub fn over_quota(plan: &Plan) -> Option<String> {
    let over = OverQuota::of_restored(plan.cluster.backup.bytes, plan.host.site.quota_bytes)?;
    let (bytes, quota) = (ByteSize(over.database), ByteSize(over.quota));
    Some(match plan.host.rewrite {
        Rewrite::Not => format!("once restored, {over}"),
        Rewrite::ToFit { .. } => format!(
            "the backup has {bytes} and etcd's quota is {quota}: it is compacted if that makes it fit, and if it does not, that \
             is said before etcd is stopped"
        ),
        Rewrite::Defragmented | Rewrite::Compacted => format!(
            "the backup has {bytes} and etcd's quota is {quota}: whether it fits once it is written anew is said before etcd \
             is stopped"
        ),
    })
}

/// What is to be said of the quota once the data is made: how long the database is, how it was written anew, and how long it
/// would be, compacted.
pub fn told_of_quota(
    plan: &Plan,
    bytes: u64,
    rewritten: Option<Rewritten>,
    compacted_bytes: Option<u64>,
) -> Option<String> {
    let quota = plan.host.site.quota_bytes?;
    if let Some(over) = OverQuota::of(bytes, Some(quota)) {
        let compacted = compacted_bytes.map_or(String::new(), |bytes| {
            format!("; compacted it would have {}, which does not help", ByteSize(bytes))
        });
        return Some(format!("{over}{compacted}"));
    }
    match (rewritten, plan.host.rewrite) {
        (Some(rewritten), Rewrite::ToFit { .. }) => Some(format!(
            "the database had {} and etcd's quota is {}: what compaction gave up was left out, and it has {} now, which fits",
            ByteSize(rewritten.bytes_before),
            ByteSize(quota),
            ByteSize(bytes)
        )),
        (_, _) => None,
    }
}

/// How long etcd is down, as measured: it stops, starts, and reads about a gibibyte a second.
pub fn seconds_down(plan: &Plan) -> u64 {
    1 + plan.cluster.backup.bytes.div_ceil(1 << 30)
}

/// That an empty directory would begin a new cluster, where nothing keeps etcd from that.
pub fn begins_anew(plan: &Plan, to_change: &[Change]) -> Option<String> {
    let change = to_change.iter().find(|change| change.lets_begin_anew)?;
    plan.host.overlay.is_none().then(|| {
        format!(
            "{} would begin a new, empty cluster if its data directory were empty: set `{}` to `existing` in {}",
            plan.host.site.unit, change.setting, change.place
        )
    })
}

/// What to think of before it is carried out.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let mut warnings: Vec<String> = over_quota(plan).into_iter().collect();
    if let (Some(place), Some(of)) = (plan.host.in_place, plan.cluster.backup.cluster)
        && place != of
    {
        warnings.push(format!(
            "the data in place is of cluster {place}, the backup of cluster {of}: expected after an earlier restore; otherwise check that this is the right cluster's backup"
        ));
    }
    warnings.extend(plan.older_etcd().map(|(of, here)| {
        format!(
            "the backup was made by etcd {of}, and etcd {here} runs here: what a newer one wrote, an older one may not read; \
             {SHOULD_BE_NEWER}"
        )
    }));
    if plan.cluster.backup.cluster.is_none() && !plan.is_single() {
        warnings.push(
            "each host must be given the same file: another one makes another cluster, which this one does not join"
                .to_owned(),
        );
    }
    warnings
}

/// What is to be done about an etcd that does not come up on the old data either.
pub fn not_revived(ledger: &Ledger, words: &str) -> String {
    let unit = &ledger.plan.host.site.unit;
    let too = match ledger.service.started && !ledger.was_asked_back() {
        true => " too",
        false => "",
    };
    format!(
        "{unit} failed on the old data{too} ({words}), which is in place and whole, with its settings: see `journalctl -u \
         {unit}`, mend that, then `systemctl start {unit}`"
    )
}

/// A restore that was taken back, as a failure.
pub fn undone(ledger: &Ledger, why: &str) -> Failure {
    let (id, unit) = (ledger.id(), &ledger.plan.host.site.unit);
    let was_asked_back = ledger.was_asked_back();
    let what = match (ledger.service.started, ledger.touched_etcd()) {
        (true, _) if ledger.service.may_have_served && !was_asked_back => "failed its health check and was rolled back",
        (true, _) => "was rolled back",
        (false, true) => "was rolled back before etcd was started on it",
        (false, false) => "was given up, and nothing was changed",
    };
    let failure = Failure::new(Exit::Failed, format!("restore {id} {what}: {why}"));
    if !ledger.service.started {
        return failure;
    }
    let log = match was_asked_back {
        true => String::new(),
        false => format!("see `journalctl -u {unit}`{}; ", of_versions(&ledger.plan)),
    };
    failure.next(format!(
        "{log}what was restored is set aside in {} until `lifeboat release`",
        made_path(&ledger.plan.host.site.data_dir, id).display()
    ))
}

/// What to think of, when etcd does not run on the new data.
fn of_versions(plan: &Plan) -> String {
    match (plan.older_etcd(), &plan.cluster.backup.etcd_version) {
        (Some((of, here)), _) => {
            format!(": the backup was made by etcd {of}, and etcd {here} ran here; {SHOULD_BE_NEWER}")
        }
        (None, Some(of)) if plan.host.site.etcd_version.is_none() => {
            format!(": the backup was made by etcd {of}, and an older one may not read it")
        }
        (None, _) => String::new(),
    }
}

/// How long etcd was down.
pub fn was_down(ledger: &Ledger) -> Option<f64> {
    let (from, until) = (ledger.service.downtime.from?, ledger.service.downtime.until?);
    Some(until.duration_since(from).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A restore that etcd was started on and that was taken back.
    fn taken_back() -> Ledger {
        let text = include_str!("../../../tests/vectors/fixtures/ledgers-0.1/closed-undone.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_quota_is_told_of_before_and_after_the_data_is_made() {
        const MIB: u64 = 1 << 20;
        let mut plan = taken_back().plan;
        plan.cluster.backup.bytes = 20 * MIB;
        plan.host.site.quota_bytes = Some(16 * MIB);
        for (rewrite, says) in [
            (Rewrite::Not, "quota-backend-bytes"),
            (
                Rewrite::ToFit { below: 15 * MIB },
                "it is compacted if that makes it fit",
            ),
            (Rewrite::Compacted, "before etcd is stopped"),
        ] {
            plan.host.rewrite = rewrite;
            let told = over_quota(&plan).unwrap();
            assert!(told.contains(says), "{told}");
        }
        plan.host.rewrite = Rewrite::ToFit { below: 15 * MIB };
        let made = |bytes, was: Option<u64>, compacted| {
            let rewritten = was.map(|bytes_before| Rewritten {
                bytes_before,
                is_compacted: true,
            });
            told_of_quota(&plan, bytes, rewritten, compacted)
        };
        assert_eq!(made(10 * MIB, None, None), None);
        let fits = made(10 * MIB, Some(20 * MIB), Some(10 * MIB)).unwrap();
        assert!(fits.contains("which fits") && fits.contains("20.0 MiB"), "{fits}");
        let over = made(20 * MIB, None, Some(18 * MIB)).unwrap();
        for part in [
            "`quota-backend-bytes` to 41943040 or more",
            "compacted it would have 18.0 MiB",
        ] {
            assert!(over.contains(part), "no `{part}` in {over}");
        }
        plan.host.site.quota_bytes = None;
        assert_eq!(over_quota(&plan), None);
    }

    #[test]
    fn what_was_undone_is_told_as_far_as_it_had_come() {
        let told = |change: &dyn Fn(&mut Ledger)| {
            let mut ledger = taken_back();
            ledger.reason = Some("etcd.service is failed".to_owned());
            ledger.service.started = true;
            ledger.service.may_have_served = true;
            change(&mut ledger);
            let why = ledger.reason.clone().unwrap();
            (undone(&ledger, &why).to_string(), not_revived(&ledger, "failed"))
        };
        let (failed, down) = told(&|_| {});
        for part in [
            " failed its health check and was rolled back: etcd.service is failed",
            "journalctl",
            "set aside in",
        ] {
            assert!(failed.contains(part), "no `{part}` in {failed}");
        }
        assert!(down.contains("failed on the old data too"), "{down}");
        let (unstarted, _) = told(&|ledger| ledger.service.may_have_served = false);
        assert!(!unstarted.contains("health") && unstarted.contains(" was rolled back: etcd.service is failed"));
        assert!(unstarted.contains("set aside in"), "{unstarted}");

        // The new data did nothing wrong where somebody wants the old, as when `rollback` was cut off and is finished later.
        let (asked, down) = told(&|ledger| ledger.reason = Some("it was asked for".to_owned()));
        assert!(asked.contains(" was rolled back: it was asked for"), "{asked}");
        assert!(!asked.contains("health") && !asked.contains("journalctl"), "{asked}");
        assert!(asked.contains("what was restored is set aside in"), "{asked}");
        assert!(down.contains("failed on the old data (failed)"), "{down}");

        // etcd was stopped, whether its data was seen by then or not.
        for knows_data in [true, false] {
            let (before, down) = told(&|ledger| {
                ledger.service.started = false;
                ledger.service.may_have_served = false;
                ledger.service.downtime.from = Some(ledger.opened_at);
                if !knows_data {
                    ledger.before.data = None;
                }
            });
            assert!(
                before.contains("was rolled back before etcd was started on it"),
                "{before}"
            );
            assert!(!before.contains("set aside"), "it is discarded: {before}");
            assert!(!down.contains(" too"), "{down}");
        }
        let (nothing, _) = told(&|ledger| {
            ledger.service = Default::default();
            ledger.before.data = None;
        });
        assert!(nothing.contains("was given up, and nothing was changed"), "{nothing}");
    }
}
