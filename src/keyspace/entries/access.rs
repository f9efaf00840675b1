//! Whether etcd lets the caller of an entry do what it asks for, where authentication is on.
//!
//! With a user of role `root` that is sure. What other users may do depends on their roles, whose rules are not executed
//! here: such entries are refused.
//!
//! Source: etcd `server/auth/store.go` (`isOpPermitted`, `IsAdminPermitted`), `server/etcdserver/apply/apply_auth.go`.

use std::collections::HashSet;

use super::super::wire::{Fields, WireError};
use super::super::{Auth, Error};
use super::request::{Caller, Request};
use crate::bbolt;

/// Who may do what.
#[derive(Debug)]
pub(super) struct Access<'a> {
    enabled: bool,
    revision: u64,
    /// The users of role `root`.
    roots: HashSet<&'a [u8]>,
}

impl<'a> Access<'a> {
    /// What a database says of it.
    pub fn read(auth: &Auth, users: &[bbolt::Entry<'a>]) -> Result<Access<'a>, Error> {
        let mut roots = HashSet::new();
        for (name, user) in users {
            let malformed = |error: WireError| Error::malformed("authUsers", name, error.into());
            if is_root(user).map_err(malformed)? {
                roots.insert(*name);
            }
        }
        Ok(Access {
            enabled: auth.enabled,
            revision: auth.revision.unwrap_or(0),
            roots,
        })
    }

    /// Whether it is known what comes of the request.
    pub fn check(&self, caller: &Caller<'_>, request: &Request<'_>) -> Result<(), String> {
        let is_root = self.roots.contains(caller.user);
        if !self.enabled || !is_checked(request) || is_root {
            return Ok(());
        }
        // The keys of a lease are looked at one by one.
        if self.is_outdated(caller) && !matches!(request, Request::LeaseRevoke(_)) {
            return Ok(());
        }
        let user = String::from_utf8_lossy(caller.user);
        Err(match user.as_ref() {
            "" => "authentication is on, and it names no user".to_owned(),
            user => format!("authentication is on, and user `{user}` has not the role root"),
        })
    }

    /// Whether users and roles were changed since the caller logged in: etcd then refuses what it asks for.
    pub fn is_outdated(&self, caller: &Caller<'_>) -> bool {
        self.enabled && !caller.user.is_empty() && caller.auth_revision != 0 && caller.auth_revision < self.revision
    }
}

/// Whether etcd looks at the user before it executes that.
fn is_checked(request: &Request<'_>) -> bool {
    match request {
        Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) | Request::LeaseRevoke(_) => true,
        Request::Compaction(_)
        | Request::LeaseGrant { .. }
        | Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::Nothing
        | Request::Unknown(_) => false,
    }
}

/// Whether an `authpb.User` has the role `root`.
fn is_root(user: &[u8]) -> Result<bool, WireError> {
    for field in Fields::of(user) {
        let field = field?;
        if field.number == 3 && field.bytes()? == b"root" {
            return Ok(true);
        }
    }
    Ok(false)
}
