//! Opening the stores of a cluster, all at once, each within its deadline.

use std::sync::Arc;

use crate::error_chain::with_causes;
use crate::layout::{MAX_BYTES, ObjectName};
use crate::model::ByteSize;
use crate::signing::{Authority, Roll};
use crate::state::{self, State};
use crate::store::{self, Access, Known, Limits, Location, Store};

/// Where a destination is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Its name in the configuration.
    pub name: String,
    /// Its URL: this host remembers which store it has seen there.
    pub url: String,
    /// What the URL names.
    pub location: Location,
    /// How many bytes a second may be written there, if there is a limit.
    pub bandwidth: Option<ByteSize>,
}

/// A destination that was opened, or the reason why it could not be.
#[derive(Debug)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// The store, or why it cannot be used.
    pub store: Result<Store, store::Error>,
}

impl Destination {
    /// The same once more, where it can be used.
    pub fn again(&self) -> Option<Destination> {
        let store = self.store.as_ref().ok()?.clone();
        Some(Destination {
            name: self.name.clone(),
            store: Ok(store),
        })
    }
}

/// Opens each, side by side: three that hang cost one deadline. `memory` is what this host knows of the stores; one that
/// is opened to be written to and seen for the first time is remembered there. `authority` judges what is in them, with the
/// newest list of signers that is found in any.
pub fn open(
    addresses: Vec<Address>,
    authority: Authority,
    memory: Option<&State>,
    access: Access,
    limits: Limits,
) -> Vec<Destination> {
    let cluster = &authority.cluster().clone();
    let opened = side_by_side(addresses.into_iter(), |address| {
        let expected = memory.map_or(Ok(None), |state| expected(state, address, access))?;
        let store = Store::open_within(&address.location, cluster, expected.as_ref(), access, limits)?;
        match (store.id(), expected, access, memory) {
            (Some(id), None, Access::Write { .. }, Some(state)) => {
                let remembered = state.remember_store(&address.name, &address.url, id);
                remembered.map_err(|error| forgotten(address, &error))?;
            }
            (Some(_) | None, _, Access::Read | Access::Write { .. }, _) => {}
        }
        let store = store.limited_to(address.bandwidth);
        Ok(match memory {
            Some(state) => store.keeping(state.documents_of(&address.name)),
            None => store,
        })
    });
    let opened = opened.into_iter().map(|(address, store)| Destination {
        name: address.name,
        store,
    });
    judged_by(authority, memory, access, opened.collect())
}

/// The same destinations, with what is in them judged by this authority and the newest list of signers that they show.
pub fn judged_by(
    authority: Authority,
    memory: Option<&State>,
    access: Access,
    opened: Vec<Destination>,
) -> Vec<Destination> {
    let authority = match authority.trust().roots.is_empty() {
        true => authority,
        false => match newest_list(&authority, memory, access, &opened) {
            Ok(Some(list)) => authority.with_list(&list),
            Ok(None) => authority,
            Err(error) => return all_forgotten(opened, &error),
        },
    };
    let authority = Arc::new(authority);
    let judged = opened.into_iter().map(|Destination { name, store }| Destination {
        name,
        store: store.map(|store| store.under(authority.clone())),
    });
    judged.collect()
}

/// Whoever cannot know whom a newer list has left out takes nobody's word.
fn all_forgotten(opened: Vec<Destination>, error: &state::Error) -> Vec<Destination> {
    let all = opened.into_iter().map(|Destination { name, store }| Destination {
        name,
        store: store.and_then(|store| {
            let at = store.address().to_string();
            let why = with_causes(error);
            Err(store::Error::Forgotten { at, why })
        }),
    });
    all.collect()
}

/// A list of signers, and its bytes.
pub type SignedList = (Roll, Vec<u8>);

/// The list of signers with the highest number, among those in the stores and the one that this host remembers: a store that
/// shows an older one brings nobody back. One that no root has signed is as if it were not there.
fn newest_list(
    authority: &Authority,
    memory: Option<&State>,
    access: Access,
    opened: &[Destination],
) -> Result<Option<Roll>, state::Error> {
    let stores = opened.iter().filter_map(|destination| destination.store.as_ref().ok());
    let found = side_by_side(stores, |store| list_in(store, authority).ok().flatten());
    let remembered = match memory.map_or(Ok(None), |state| remembered_list(state, authority)) {
        // Who may not read this host's memory, such as another user, reads the stores without it.
        Err(state::Error::Io { .. }) if access == Access::Read => None,
        remembered => remembered?,
    };
    let found = found.into_iter().filter_map(|(_, found)| found);
    let newest = remembered.into_iter().chain(found).max_by_key(by_number);
    // Who only looks leaves nothing in the state, where it would be his own.
    if let (Some((_, document)), Some(state), Access::Write { .. }) = (&newest, memory, access) {
        // Should it fail, another store or the next run knows it.
        note_list(state, authority, document).ok();
    }
    Ok(newest.map(|(list, _)| list))
}

/// By what the newest of several lists is told.
pub fn by_number((list, _): &SignedList) -> (u64, jiff::Timestamp) {
    (list.number, list.issued_at)
}

/// The list that a store has, if a root has signed it.
pub fn list_in(store: &Store, authority: &Authority) -> Result<Option<SignedList>, store::Error> {
    match store.read_small(&ObjectName::Signers, MAX_BYTES as u64) {
        Ok(document) => Ok(signed_by_root(authority, document)),
        Err(store::Error::NotFound { .. } | store::Error::Unfit { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The list that this host remembers.
pub fn remembered_list(state: &State, authority: &Authority) -> Result<Option<SignedList>, state::Error> {
    let document = state.list_of_signers()?;
    Ok(document.and_then(|document| signed_by_root(authority, document)))
}

/// Remembers this list, unless a newer one is remembered.
pub fn note_list(state: &State, authority: &Authority, document: &[u8]) -> Result<(), state::Error> {
    let number = |document: &[u8]| signed_by_root(authority, document.to_vec()).as_ref().map(by_number);
    state.note_list_of_signers(document, |known| number(known) > number(document))
}

fn signed_by_root(authority: &Authority, document: Vec<u8>) -> Option<SignedList> {
    let list = Roll::read(authority.cluster(), &authority.trust().roots, &document).ok()?;
    Some((list, document))
}

/// The store that this host has seen there.
fn expected(state: &State, address: &Address, access: Access) -> Result<Option<Known>, store::Error> {
    match (state.seen_store(&address.name, &address.url), access) {
        (Ok(seen), _) => Ok(seen),
        (Err(error @ state::Error::Corrupt { .. }), _) | (Err(error), Access::Write { .. }) => {
            Err(forgotten(address, &error))
        }
        // Who may not read this host's memory, such as another user, reads the stores without it.
        (Err(_), Access::Read) => Ok(None),
    }
}

fn forgotten(address: &Address, error: &state::Error) -> store::Error {
    store::Error::Forgotten {
        at: address.location.to_string(),
        why: with_causes(error),
    }
}

/// Does something with each, all at once. What it asks of a store has a deadline, and so has this.
pub fn side_by_side<I: Send, T: Send>(each: impl Iterator<Item = I>, act: impl Fn(&I) -> T + Sync) -> Vec<(I, T)> {
    let act = &act;
    std::thread::scope(|scope| {
        let begun = each.map(|one| {
            scope.spawn(move || {
                let done = act(&one);
                (one, done)
            })
        });
        let begun: Vec<_> = begun.collect();
        let ended = begun
            .into_iter()
            .map(|thread| thread.join().expect("a panic aborts the process"));
        ended.collect()
    })
}
