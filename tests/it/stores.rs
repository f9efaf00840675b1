//! What every store promises, on real servers: `make test-stores` installs and starts them, and names them in
//! `LIFEBOAT_TEST_STORES`, as `s3=http://127.0.0.1:9000,azblob=…`.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use lifeboat::secret::Secret;
use lifeboat::store::{
    Access, Begun, Bucket, BucketKind, BucketOptions, Checksum, Error, Location, ReadBack, Store, Transfer,
};
use lifeboat::{layout, model};

#[path = "../../src/store/conformance.rs"]
pub mod conformance;

/// The key that every azurite has: it is in its documentation.
const AZURITE: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

fn location(kind: BucketKind, endpoint: &str, checksum: Checksum, folder: &tempfile::TempDir) -> Location {
    let credentials = match kind {
        BucketKind::Gcs => "anonymous".to_owned(),
        BucketKind::Azblob => format!("account_name = devstoreaccount1\naccount_key = {AZURITE}\n"),
        BucketKind::Swift => unreachable!("it has tests of its own"),
        BucketKind::S3 | BucketKind::Oss => "access_key_id = test:tester\nsecret_access_key = testing\n".to_owned(),
    };
    let file = folder.path().join("credentials");
    std::fs::write(&file, credentials).unwrap();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Location::Bucket(Box::new(Bucket {
        kind,
        name: "backups".to_owned(),
        prefix: format!("run-{}", since.as_nanos()),
        options: BucketOptions {
            endpoint: Some(endpoint.to_owned()),
            path_style: Some(true),
            part_size: 5 << 20,
            checksum,
            credentials: Some(Secret::File(file)),
            ..BucketOptions::default()
        },
    }))
}

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_keep_the_promises_of_every_store() {
    let servers = std::env::var("LIFEBOAT_TEST_STORES").expect("it names the servers");
    for server in servers.split(',').filter(|server| !server.is_empty()) {
        let (scheme, endpoint) = server.split_once('=').expect("SCHEME=ENDPOINT");
        let kinds = [BucketKind::S3, BucketKind::Gcs, BucketKind::Azblob, BucketKind::Oss];
        let kind = kinds
            .into_iter()
            .find(|kind| kind.scheme() == scheme)
            .expect("a scheme");
        println!("{scheme} at {endpoint}");
        for checksum in [Checksum::Off, Checksum::Crc32c] {
            keeps_them(kind, endpoint, checksum);
        }
    }
}

fn keeps_them(kind: BucketKind, endpoint: &str, checksum: Checksum) {
    let folder = tempfile::tempdir().unwrap();
    let location = location(kind, endpoint, checksum, &folder);
    let access = Access::Write { now: Timestamp::now() };
    let open = || Store::open(&location, &"prod".parse().unwrap(), None, access).unwrap();
    // The emulator of Google's looks at no condition.
    conformance::conforms(&open, 5 << 20, kind != BucketKind::Gcs);
}
