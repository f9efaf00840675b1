//! A blocking client of the tests' own, so that what is under test is not what judges it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use etcd_client::{
    Certificate, CompactionOptions, ConnectOptions, DeleteOptions, Error, GetOptions, Identity, LeaseGrantOptions,
    PutOptions, TlsOptions, Txn, TxnResponse,
};
use tokio::runtime::Runtime;

use super::tls::Tls;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be started")
});

/// Waits for a future on the runtime that all clients share.
pub fn wait_for<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// How a client proves who it is.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub tls: Option<Tls>,
    pub user: Option<(String, String)>,
}

/// What a member answers to HashKV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashKv {
    /// The revision that was hashed.
    pub revision: i64,
    /// The compacted revision that the hash depends on; -1 if nothing was ever compacted.
    pub compact_revision: i64,
    pub hash: u32,
}

/// A key as it is served, without its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// A client of one or more members of a cluster.
#[derive(Clone)]
pub struct Client(etcd_client::Client);

impl Client {
    /// Connects; nothing is sent before the first call unless there is a user to log in.
    pub fn connect(endpoints: &[String], credentials: &Credentials) -> Result<Client, Error> {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(Duration::from_secs(5))
            .with_timeout(Duration::from_secs(30));
        if let Some((user, password)) = &credentials.user {
            options = options.with_user(user, password);
        }
        if let Some(tls) = &credentials.tls {
            let read = |path| std::fs::read(path).expect("the test's certificates are there");
            options = options.with_tls(
                TlsOptions::new()
                    .ca_certificate(Certificate::from_pem(read(&tls.ca)))
                    .identity(Identity::from_pem(read(&tls.client_cert), read(&tls.client_key))),
            );
        }
        wait_for(etcd_client::Client::connect(endpoints, Some(options))).map(Client)
    }

    /// The wrapped client, for calls that are not wrapped.
    pub fn raw(&self) -> etcd_client::Client {
        self.0.clone()
    }

    /// Puts a key and gives the revision of the change; `lease` 0 is none.
    pub fn put(&self, key: &str, value: impl Into<Vec<u8>>, lease: i64) -> Result<i64, Error> {
        let options = (lease != 0).then(|| PutOptions::new().with_lease(lease));
        let mut response = wait_for(self.raw().put(key, value, options))?;
        Ok(revision_of(response.take_header()))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let response = match wait_for(self.raw().get(key, None)) {
            // The connection was to an etcd that is gone; the next one is to the etcd that serves now.
            Err(Error::GRpcStatus(status)) if status.message() == "transport error" => {
                wait_for(self.raw().get(key, None))?
            }
            answer => answer?,
        };
        Ok(response.kvs().first().map(|entry| entry.value().to_vec()))
    }

    /// Every key that is served now.
    pub fn get_all(&self) -> Result<BTreeMap<Vec<u8>, Entry>, Error> {
        self.get_all_at(0)
    }

    /// Every key as it was at one revision (0 is the present one), read page by page.
    pub fn get_all_at(&self, mut revision: i64) -> Result<BTreeMap<Vec<u8>, Entry>, Error> {
        const PAGE: i64 = 500;
        let mut all = BTreeMap::new();
        let mut from = vec![0];
        loop {
            let options = GetOptions::new()
                .with_from_key()
                .with_limit(PAGE)
                .with_revision(revision);
            let mut page = wait_for(self.raw().get(from.clone(), Some(options)))?;
            if revision == 0 {
                revision = revision_of(page.take_header());
            }
            for found in page.kvs() {
                let entry = Entry {
                    value: found.value().to_vec(),
                    create_revision: found.create_revision(),
                    mod_revision: found.mod_revision(),
                    version: found.version(),
                    lease: found.lease(),
                };
                all.insert(found.key().to_vec(), entry);
            }
            let Some(last) = page.kvs().last().filter(|_| page.more()) else {
                return Ok(all);
            };
            from = last.key().to_vec();
            from.push(0);
        }
    }

    /// Deletes a key and gives the revision afterwards.
    pub fn delete(&self, key: &str) -> Result<i64, Error> {
        let mut response = wait_for(self.raw().delete(key, None))?;
        Ok(revision_of(response.take_header()))
    }

    /// Deletes the keys from `from` up to but not including `to`.
    pub fn delete_range(&self, from: &str, to: &str) -> Result<i64, Error> {
        let options = DeleteOptions::new().with_range(to);
        let mut response = wait_for(self.raw().delete(from, Some(options)))?;
        Ok(revision_of(response.take_header()))
    }

    /// Runs a transaction.
    pub fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        wait_for(self.raw().txn(txn))
    }

    /// Grants a lease with an id of the caller's choice.
    pub fn grant(&self, id: i64, ttl_seconds: i64) -> Result<(), Error> {
        let options = LeaseGrantOptions::new().with_id(id);
        wait_for(self.raw().lease_grant(ttl_seconds, Some(options))).map(drop)
    }

    /// Revokes a lease, and with it deletes its keys.
    pub fn revoke(&self, id: i64) -> Result<(), Error> {
        wait_for(self.raw().lease_revoke(id)).map(drop)
    }

    /// The ids of all leases, in order.
    pub fn leases(&self) -> Result<Vec<i64>, Error> {
        let response = wait_for(self.raw().leases())?;
        let mut ids: Vec<i64> = response.leases().iter().map(|lease| lease.id()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Compacts everything up to a revision and returns when the member has removed it.
    pub fn compact(&self, revision: i64) -> Result<(), Error> {
        let options = CompactionOptions::new().with_physical();
        wait_for(self.raw().compact(revision, Some(options))).map(drop)
    }

    /// The hash of the key space at a revision; 0 is the current one.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, Error> {
        let mut response = wait_for(self.raw().hash_kv(revision))?;
        let current = revision_of(response.take_header());
        Ok(HashKv {
            revision: if revision == 0 { current } else { revision },
            compact_revision: response.compact_version(),
            hash: response.hash(),
        })
    }

    /// The current revision, by a linearizable read: whatever was acknowledged before is in it.
    pub fn revision(&self) -> Result<i64, Error> {
        let options = GetOptions::new().with_count_only();
        let mut response = wait_for(self.raw().get("/", Some(options)))?;
        Ok(revision_of(response.take_header()))
    }

    /// The revision that the member itself has come to, by a serializable read.
    pub fn applied_revision(&self) -> Result<i64, Error> {
        let options = GetOptions::new().with_count_only().with_serializable();
        let mut response = wait_for(self.raw().get("/", Some(options)))?;
        Ok(revision_of(response.take_header()))
    }

    /// Whether the member serves: a linearizable read needs a leader and a member that follows it. One that is asked
    /// too early lets the question lie for seconds, so it is not waited for.
    pub fn probe(&self) -> Result<(), Error> {
        const PATIENCE: Duration = Duration::from_millis(500);
        let options = GetOptions::new().with_count_only();
        let mut client = self.raw();
        wait_for(async { tokio::time::timeout(PATIENCE, client.get("/", Some(options))).await })
            .map_err(|_| Error::InvalidArgs("no answer in time".to_owned()))?
            .map(drop)
    }

    /// The version of the member that answers.
    pub fn version(&self) -> Result<String, Error> {
        Ok(wait_for(self.raw().status())?.version().to_owned())
    }

    /// The member that leads, by its id, as this one sees it.
    pub fn leader(&self) -> Result<u64, Error> {
        Ok(wait_for(self.raw().status())?.leader())
    }

    /// The lifetime of a lease as it was granted.
    pub fn granted_ttl(&self, id: i64) -> Result<i64, Error> {
        Ok(wait_for(self.raw().lease_time_to_live(id, None))?.granted_ttl())
    }

    /// Switches authentication on, with a user `root` of this password.
    pub fn enable_auth(&self, password: &str) -> Result<(), Error> {
        let mut client = self.raw();
        wait_for(async {
            client.user_add("root", password, None).await?;
            client.role_add("root").await?;
            client.user_grant_role("root", "root").await?;
            client.auth_enable().await.map(drop)
        })
    }
}

fn revision_of(header: Option<etcd_client::ResponseHeader>) -> i64 {
    header.expect("etcd puts a header into every answer").revision()
}
