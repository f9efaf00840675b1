//! Claims of slots.

use super::sweep::{NOBODYS, full_of, paths};
use super::*;

/// A slot and a host's word on it, as it is written at `now`.
pub(super) fn claim(state: State, now: Timestamp) -> (SlotPath, Claim) {
    let slot = SlotPath::new("hourly".parse().unwrap(), "2026-11-20T10:00:00Z".parse().unwrap());
    let claim = Claim::new(&HostName::nearest("h1"), "1a2b", &NOBODYS.parse().unwrap(), state, now);
    (slot, claim)
}

fn put_claim(store: &Store, number: u32, state: State) -> Result<(), Error> {
    let (slot, claim) = claim(state, store.now().unwrap());
    store.put_new(&ObjectName::Claim(slot, number), &claim.to_bytes())
}

#[test]
fn of_the_claims_of_a_slot_the_highest_number_is_found_and_none_is_written_twice() {
    let (_root, store) = store();
    let (slot, _) = claim(State::Taking, Timestamp::UNIX_EPOCH);
    assert_eq!(store.newest_claim(&slot).unwrap(), (None, 1));
    for number in [1, 2, 10] {
        put_claim(&store, number, State::Taking).unwrap();
    }
    let taken = put_claim(&store, 10, State::Taking);
    assert!(matches!(taken, Err(Error::AlreadyExists { .. })), "{taken:?}");
    leave(&store, "slots/hourly/20261120T100000Z.011.json");
    leave(&store, "slots/hourly/20261120T110000Z.12.json");
    let newest = store.newest_claim(&slot).unwrap().0.unwrap();
    assert_eq!(newest.number, 10);
    assert!(newest.is_live(store.now().unwrap()));
    leave(&store, "slots/hourly/20261120T100000Z.11.json");
    let damaged = store.newest_claim(&slot).unwrap().0.unwrap();
    assert!(damaged.claim.is_err() && damaged.is_live(store.now().unwrap()));
    fs::remove_dir_all(store.folder()).unwrap();
    assert!(
        store.newest_claim(&slot).is_err(),
        "a store that is gone is not one without claims"
    );
}

#[test]
fn claims_of_strangers_are_passed_by_with_a_bound_and_a_sign_of_life_for_each() {
    let (_root, store) = store();
    let own = Arc::new(SigningKey::of_seed(Role::Signer, [1; 32]));
    let named = Authority::anybody(&cluster()).trusting(Trust::of([own.public()]));
    let store = store.under(Arc::new(named.signing(own)));
    let (slot, word) = claim(State::Taking, store.now().unwrap());
    write(&store, &ObjectName::Claim(slot.clone(), 1), &word.to_bytes());
    let forge = |number: u32| {
        let path = store.path_of(&ObjectName::Claim(slot.clone(), number));
        fs::write(path, word.to_bytes()).unwrap();
    };
    let look = || {
        let signs = Cell::new(0);
        let found = store
            .inner()
            .newest_claim(&slot, &|| signs.set(signs.get() + 1))
            .unwrap();
        (found.0.map(|found| found.number), found.1, signs.get())
    };
    let put = |number: u32| {
        store
            .put_document(&ObjectName::Claim(slot.clone(), number), &word.to_bytes())
            .unwrap()
    };
    put(2);
    for number in 0..1200 {
        forge(u32::MAX - number);
    }
    let (newest, next, signs) = look();
    assert_eq!((newest, next), (Some(2), 3));
    assert!(signs < 20, "none from far above is read: {signs}");
    // A stranger who takes the next numbers is read, and keeps nobody waiting for ever.
    for number in 3..=1100 {
        forge(number);
    }
    let (newest, next, signs) = look();
    assert_eq!((newest, next), (None, 1101), "as good as free");
    assert!((1000..1020).contains(&signs), "{signs}");
    put(1101);
    assert_eq!(look().0, Some(1101));

    let now = store.now().unwrap();
    let listed = store.list().unwrap();
    let signs = Cell::new(0);
    let swept = store
        .inner()
        .claimed_chains(&listed, now, &|| signs.set(signs.get() + 1));
    assert!(matches!(swept, Err(Error::Unfit { .. })), "{swept:?}");
    assert!(signs.get() > 1000);
}

#[test]
fn a_sweep_leaves_what_a_live_claim_names_and_removes_claims_after_a_week_all_at_once() {
    let (_root, store) = store();
    leave(&store, &full_of(NOBODYS));
    let now = store.now().unwrap();
    let set_back = |path: &str, hours: i64| {
        let back = std::time::SystemTime::from(now - SignedDuration::from_hours(hours));
        let file = fs::File::options().write(true).open(store.folder().join(path)).unwrap();
        file.set_modified(back).unwrap();
    };
    set_back(&full_of(NOBODYS), 48);
    put_claim(&store, 1, State::Taking).unwrap();
    assert_eq!(store.sweep(&Begun::default()).unwrap(), [], "somebody works on it");
    // Another host may be copying what a run of this one has left elsewhere too.
    let dead = |host: &str| Begun {
        dead: [NOBODYS.parse().unwrap()].into(),
        host: host.to_owned(),
        ..Begun::default()
    };
    assert_eq!(store.sweep(&dead("h2")).unwrap(), [], "another host works on it");
    assert_eq!(paths(&store.sweep(&dead("h1")).unwrap()), [full_of(NOBODYS)]);
    leave(&store, &full_of(NOBODYS));
    set_back(&full_of(NOBODYS), 48);
    put_claim(&store, 2, State::GivenUp).unwrap();
    set_back("slots/hourly/20261120T100000Z.1.json", 7 * 24 + 1);
    let swept = paths(&store.sweep(&Begun::default()).unwrap());
    assert_eq!(swept, [full_of(NOBODYS)], "the first claim stays as long as the second");
    set_back("slots/hourly/20261120T100000Z.2.json", 7 * 24 + 1);
    assert_eq!(store.sweep(&Begun::default()).unwrap().len(), 2);
    assert_eq!(tree(&store.folder()), ["store.json"]);
}
