//! What holds for any inventory, policy and time.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::super::*;
use super::clocks::every;
use crate::layout::HostName;
use crate::model::ClusterId;

/// Around a day on which Berlin turns its clocks back, so that chance meets the edges.
const BASE: i64 = 1_792_886_400;

fn any_start() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => (-2_000_i64..2_000).prop_map(|quarter| BASE + quarter * 900),
        3 => (-400_i64..400).prop_map(|day| BASE + day * 86_400),
        1 => Just(0),
        1 => -62_135_596_800_i64..253_402_200_000,
    ]
}

fn any_standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        6 => Just(Standing::Good(Proof::Stored)),
        1 => Just(Standing::Good(Proof::HashKv)),
        1 => Just(Standing::Good(Proof::None)),
        2 => Just(Standing::Bad(vec!["page 7".to_owned()])),
    ]
}

fn any_pin() -> impl Strategy<Value = PinState> {
    let by = Pin::new(Timestamp::UNIX_EPOCH, &HostName::nearest("h1"), None);
    prop_oneof![
        6 => Just(PinState::Free),
        1 => Just(PinState::Pinned(None)),
        1 => Just(PinState::Pinned(Some(by))),
    ]
}

fn any_chain() -> impl Strategy<Value = Chain> {
    let bytes = prop_oneof![8 => 0_u64..20, 1 => any::<u64>()];
    // What follows the full backup: how many revisions, and for how long.
    let follows = prop_oneof![2 => Just(None), 1 => (0_i64..12, 0_i64..10_000).prop_map(Some)];
    let parts = (
        any_start(),
        0_u8..3,
        0_i64..30,
        follows,
        bytes,
        any_standing(),
        any_pin(),
    );
    parts.prop_map(|(start, lineage, tip, follows, bytes, standing, pin)| Chain {
        path: ChainPath {
            cluster: ClusterId(0xab),
            chain: ChainId::new(Timestamp::from_second(start).unwrap(), 0),
        },
        lineage: format!("ab-0000000{lineage}").parse().unwrap(),
        tip: Revision::new(tip).unwrap(),
        reach: Revision::new(tip + follows.map_or(0, |(revisions, _)| revisions)).unwrap(),
        captured_at: follows.map(|(_, seconds)| Timestamp::from_second(start + seconds).unwrap()),
        proven: None,
        generation: 0,
        bytes,
        standing,
        is_unsure: false,
        pin,
    })
}

/// Chains whose revisions mostly rise with their start, as they do where no clock is wrong.
fn any_chains() -> impl Strategy<Value = Vec<Chain>> {
    let chains = prop::collection::vec(any_chain(), 0..40);
    (chains, any::<bool>()).prop_map(|(mut chains, in_order)| {
        if in_order {
            chains.sort_by(|a, b| a.id().cmp(b.id()));
            let mut tips: Vec<Revision> = chains.iter().map(|c| c.tip).collect();
            tips.sort();
            chains.iter_mut().zip(tips).for_each(|(chain, tip)| {
                let revisions = chain.reach.get() - chain.tip.get();
                chain.tip = tip;
                chain.reach = Revision::new(tip.get() + revisions).unwrap();
            });
        }
        for (number, chain) in (0..).zip(&mut chains) {
            chain.path.chain = ChainId::new(chain.id().started_at(), number);
        }
        chains
    })
}

fn any_unjudged() -> impl Strategy<Value = Option<Unjudged>> {
    let id = || (0_u8..4).prop_map(|n| format!("ab-0000000{n}").parse::<LineageId>().unwrap());
    let unjudged =
        (prop::option::of(id()), id()).prop_map(|(accepted, opened_last)| Unjudged { accepted, opened_last });
    prop_oneof![3 => Just(None), 1 => unjudged.prop_map(Some)]
}

fn any_inventory() -> impl Strategy<Value = Inventory> {
    (any_chains(), any_unjudged()).prop_map(|(chains, unjudged)| Inventory { chains, unjudged })
}

fn any_count() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0_u32), 5 => 1_u32..8, 1 => Just(u32::MAX)]
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let within = || {
        prop_oneof![
            3 => Just(None),
            3 => (0_u64..1_000_000).prop_map(|s| Some(Duration::from_secs(s))),
            1 => Just(Some(Duration::MAX)),
        ]
    };
    let max_bytes = prop_oneof![
        2 => Just(None),
        3 => (0_u64..300).prop_map(|b| Some(ByteSize(b))),
    ];
    let counts = (
        any_count(),
        any_count(),
        any_count(),
        any_count(),
        any_count(),
        any_count(),
        any_count(),
    );
    (counts, within(), within(), max_bytes).prop_map(
        |(
            (keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, min),
            keep_within,
            pitr_window,
            max_bytes,
        )| {
            Policy {
                keep_last,
                keep_within,
                keep_hourly,
                keep_daily,
                keep_weekly,
                keep_monthly,
                keep_yearly,
                pitr_window,
                max_bytes,
                min_backups: min,
            }
        },
    )
}

fn any_now() -> impl Strategy<Value = Timestamp> {
    any_start().prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn any_zone() -> impl Strategy<Value = TimeZone> {
    let zones = [
        "UTC0",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "EST5EDT,M3.2.0,M11.1.0",
    ];
    prop::sample::select(zones.to_vec()).prop_map(|zone| TimeZone::posix(zone).unwrap())
}

fn removed(plan: &Plan<'_>) -> BTreeSet<ChainPath> {
    plan.remove.iter().map(|verdict| verdict.chain.path.clone()).collect()
}

fn kept(plan: &Plan<'_>) -> BTreeSet<ChainPath> {
    plan.keep.iter().map(|verdict| verdict.chain.path.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2 * ProptestConfig::default().cases))]

    #[test]
    fn a_plan_is_a_partition_and_every_verdict_has_reasons(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let plan = plan(&inventory, &policy, now, &zone);
        prop_assert_eq!(plan.keep.len() + plan.remove.len(), inventory.chains.len());
        let all: BTreeSet<ChainPath> = inventory.chains.iter().map(|c| c.path.clone()).collect();
        prop_assert_eq!(&kept(&plan) | &removed(&plan), all);
        let reasons = plan.keep.iter().map(|v| v.reasons.iter().map(KeepReason::to_string).collect::<Vec<_>>());
        for texts in reasons.chain(plan.remove.iter().map(|v| v.reasons.iter().map(RemoveReason::to_string).collect())) {
            prop_assert!(!texts.is_empty() && texts.iter().all(|text| !text.is_empty() && !text.contains('\n')));
        }
    }

    #[test]
    fn the_newest_good_of_each_lineage_is_kept(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let plan = plan(&inventory, &policy, now, &zone);
        for verdict in plan.remove.iter().filter(|v| v.chain.standing.proof() >= Proof::Stored) {
            let newer = |v: &&Chain| v.lineage == verdict.chain.lineage
                && v.standing.proof() >= Proof::Stored
                && (v.tip, v.id()) > (verdict.chain.tip, verdict.chain.id());
            prop_assert!(plan.keep.iter().map(|v| v.chain).any(|chain| newer(&chain)), "{:?}", verdict);
        }
    }

    #[test]
    fn the_revisions_that_no_good_one_reaches_stay_reachable(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let plan = plan(&inventory, &policy, now, &zone);
        for verdict in &plan.remove {
            let as_new = |v: &Chain| v.lineage == verdict.chain.lineage && v.tip >= verdict.chain.tip;
            prop_assert!(plan.keep.iter().any(|v| as_new(v.chain)), "{:?}", verdict);
        }
    }

    #[test]
    fn the_last_change_of_a_history_stays(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let plan = plan(&inventory, &policy, now, &zone);
        for verdict in plan.remove.iter().filter(|v| v.chain.standing.proof() >= Proof::Stored) {
            let as_far = |v: &&Chain| v.lineage == verdict.chain.lineage
                && v.standing.proof() >= Proof::Stored
                && v.reach >= verdict.chain.reach;
            prop_assert!(plan.keep.iter().map(|v| v.chain).any(|chain| as_far(&chain)), "{:?}", verdict);
        }
    }

    #[test]
    fn a_second_plan_removes_nothing_more(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let first = plan(&inventory, &policy, now, &zone);
        let left = Inventory {
            chains: first.keep.iter().map(|verdict| verdict.chain.clone()).collect(),
            unjudged: inventory.unjudged.clone(),
        };
        let second = plan(&left, &policy, now, &zone);
        prop_assert_eq!(removed(&second), BTreeSet::new());
        prop_assert_eq!(second.excess, first.excess);
    }

    #[test]
    fn a_pin_keeps_its_chain_and_removes_no_other(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone(),
        which in any::<prop::sample::Index>()
    ) {
        if inventory.chains.is_empty() {
            return Ok(());
        }
        let mut pinned = inventory.clone();
        let chain = which.get_mut(&mut pinned.chains);
        chain.pin = PinState::Pinned(None);
        let path = chain.path.clone();
        let with = plan(&pinned, &policy, now, &zone);
        prop_assert!(kept(&with).contains(&path));
        prop_assert!(removed(&with).is_subset(&removed(&plan(&inventory, &policy, now, &zone))));
    }

    #[test]
    fn the_order_of_the_inventory_is_of_no_account(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone(),
        by in any::<prop::sample::Index>()
    ) {
        let mut turned = inventory.clone();
        turned.chains.reverse();
        let middle = by.index(turned.chains.len().max(1)).min(turned.chains.len());
        turned.chains.rotate_left(middle);
        prop_assert_eq!(plan(&turned, &policy, now, &zone), plan(&inventory, &policy, now, &zone));
    }

    #[test]
    fn an_unjudged_lineage_keeps_every_other_whole(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        if let Some(unjudged) = &inventory.unjudged {
            for verdict in plan(&inventory, &policy, now, &zone).remove {
                prop_assert_eq!(&verdict.chain.lineage, &unjudged.opened_last);
                prop_assert_ne!(Some(&verdict.chain.lineage), unjudged.accepted.as_ref());
            }
        }
    }

    #[test]
    fn bad_backups_take_nothing_from_good_ones(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let mut without_max = policy;
        without_max.max_bytes = None;
        let mut only_good = inventory.clone();
        only_good.chains.retain(|chain| chain.standing.proof() >= Proof::Stored);
        let good: BTreeSet<ChainPath> = only_good.chains.iter().map(|c| c.path.clone()).collect();
        let all = removed(&plan(&inventory, &without_max, now, &zone));
        prop_assert_eq!(&all & &good, removed(&plan(&only_good, &without_max, now, &zone)));
    }

    #[test]
    fn there_are_min_backups_of_every_lineage_that_had_as_many(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let plan = plan(&inventory, &policy, now, &zone);
        for id in inventory.chains.iter().map(|c| &c.lineage) {
            let good = |c: &&Chain| c.lineage == *id && c.standing.proof() >= Proof::Stored;
            let had = inventory.chains.iter().filter(good).count();
            let has = plan.keep.iter().map(|v| v.chain).filter(good).count();
            prop_assert!(has >= had.min(keep_rules::count(policy.min_backups)));
        }
    }

    #[test]
    fn what_is_over_max_bytes_is_pinned_or_must_not_go(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone()
    ) {
        let plan = plan(&inventory, &policy, now, &zone);
        if let Some(max) = policy.max_bytes {
            let unpinned = plan.keep.iter().filter(|v| v.chain.pin == PinState::Free);
            let sum: u128 = unpinned.map(|v| u128::from(v.chain.bytes)).sum();
            let over = sum.saturating_sub(u128::from(max.0));
            prop_assert_eq!(u128::from(plan.excess.0), over.min(u128::from(u64::MAX)));
        } else {
            prop_assert_eq!(plan.excess, ByteSize(0));
        }
    }

    #[test]
    fn a_later_now_alone_removes_nothing(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), ahead in 0_i64..200_000, zone in any_zone()
    ) {
        // With nothing dated after it.
        let now = inventory.chains.iter().map(|c| c.id().started_at()).fold(now, Timestamp::max);
        let later = now.checked_add(SignedDuration::from_secs(ahead)).unwrap_or(Timestamp::MAX);
        let of = |now| removed(&plan(&inventory, &policy, now, &zone));
        prop_assert_eq!(of(later), of(now));
    }

    #[test]
    fn a_careful_plan_removes_nothing_that_the_plan_keeps(
        inventory in any_inventory(), policy in any_policy(), now in any_now(), zone in any_zone(),
        store_is_ahead_by in prop_oneof![Just(0_i64), -2000_i64..2000], pause in proptest::option::of(1_i64..400_000)
    ) {
        let clocks = Clocks { host: now, set_back: Ok(None), store: Ok(now.saturating_add(SignedDuration::from_secs(store_is_ahead_by)).unwrap()) };
        let (careful, held) = careful_plan(&inventory, &policy, &clocks, pause.map(|seconds| every(SignedDuration::from_secs(seconds))), &zone);
        let plain = plan(&inventory, &policy, now, &zone);
        let (of_careful, of_plain) = (removed(&careful), removed(&plain));
        prop_assert!(of_careful.iter().all(|chain| of_plain.contains(chain)));
        let witnesses = careful.keep.iter().filter(|verdict| verdict.reasons == [KeepReason::ShowsThePause]);
        prop_assert_eq!(held.map_or(0, |held| held.backups) + witnesses.count(), of_plain.len() - of_careful.len());
        prop_assert_eq!(careful.keep.len() + careful.remove.len(), inventory.chains.len());
    }
}
