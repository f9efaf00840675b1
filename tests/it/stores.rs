//! What every store promises, on real servers: `make test-stores` installs and starts them, and names them in
//! `LIFEBOAT_TEST_STORES`, as `s3=http://127.0.0.1:9000,azblob=…`.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use lifeboat::secret::Secret;
use lifeboat::store::{
    Access, Begun, Bucket, BucketKind, BucketOptions, Checksum, Error, Location, ReadBack, Store, Transfer,
};
use lifeboat::{layout, model};

use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::life::{self, Away};
use super::support::tools::Version;

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
    fs::write(&file, credentials).unwrap();
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

/// The servers to be tried: what they serve, and where.
fn servers() -> Vec<(BucketKind, String)> {
    let servers = std::env::var("LIFEBOAT_TEST_STORES").expect("it names the servers");
    let servers = servers.split(',').filter(|server| !server.is_empty());
    let kinds = [BucketKind::S3, BucketKind::Gcs, BucketKind::Azblob, BucketKind::Oss];
    let server = |server: &str| {
        let (scheme, endpoint) = server.split_once('=').expect("SCHEME=ENDPOINT");
        let kind = kinds.into_iter().find(|kind| kind.scheme() == scheme);
        (kind.expect("a scheme"), endpoint.to_owned())
    };
    servers.map(server).collect()
}

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_keep_the_promises_of_every_store() {
    for (kind, endpoint) in servers() {
        println!("{} at {endpoint}", kind.scheme());
        for checksum in [Checksum::Off, Checksum::Crc32c] {
            keeps_them(kind, &endpoint, checksum);
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

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_of_every_kind_and_the_whole_life_of_backups() {
    for (kind, endpoint) in servers() {
        println!("{} at {endpoint}", kind.scheme());
        leads_a_life(kind, &endpoint);
    }
}

fn leads_a_life(kind: BucketKind, endpoint: &str) {
    let etcd = Etcd::start(Version::V3_6, Options::default()).expect("it can be started");
    let host = Host::new(&etcd);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let url = format!("{}://backups/life-{}", kind.scheme(), since.as_nanos());
    let azure = format!(
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={AZURITE};BlobEndpoint={endpoint};"
    );
    let (keys, more, environment): (_, _, Vec<(&str, &OsStr)>) = match kind {
        BucketKind::S3 => (
            "aws_access_key_id = test:tester\naws_secret_access_key = testing\n",
            "path_style = true\n",
            vec![
                ("AWS_ENDPOINT_URL", endpoint.as_ref()),
                ("AWS_ACCESS_KEY_ID", "test:tester".as_ref()),
                ("AWS_SECRET_ACCESS_KEY", "testing".as_ref()),
                ("AWS_REGION", "us-east-1".as_ref()),
            ],
        ),
        BucketKind::Gcs => ("anonymous", "", vec![("STORAGE_EMULATOR_HOST", endpoint.as_ref())]),
        BucketKind::Azblob => (
            azure.as_str(),
            "",
            vec![
                ("AZURE_STORAGE_CONNECTION_STRING", azure.as_ref()),
                ("AZURE_STORAGE_ENDPOINT", endpoint.as_ref()),
            ],
        ),
        BucketKind::Oss => (
            "access_key_id = test:tester\naccess_key_secret = testing\n",
            "path_style = true\n",
            vec![
                ("OSS_ENDPOINT", endpoint.as_ref()),
                ("LIFEBOAT_PATH_STYLE", "true".as_ref()),
                ("OSS_ACCESS_KEY_ID", "test:tester".as_ref()),
                ("OSS_ACCESS_KEY_SECRET", "testing".as_ref()),
            ],
        ),
        BucketKind::Swift => unreachable!("it has tests of its own"),
    };
    fs::write(host.path("keys"), keys).unwrap();
    let table = format!(
        "[destinations.away]\nurl = \"{url}\"\nendpoint = \"{endpoint}\"\ncredentials = {{ file = {:?} }}\n\
         part_size = \"5 MiB\"\n{more}[destinations.away.retention]\nkeep_last = 1\n",
        host.path("keys")
    );
    host.configure(&etcd, &table);
    let away = Away {
        name: "away",
        url: &url,
        environment: &environment,
        of_backup: &|id| {
            let names = names_at(kind, endpoint).into_iter();
            names.filter(|name| name.contains(id)).collect()
        },
    };
    life::lead(&host, &etcd.client(), &away);
    assert!(!names_at(kind, endpoint).is_empty(), "the last backup is there");
}

/// The names of all objects that a server has, as its maker's own client tells them.
fn names_at(kind: BucketKind, endpoint: &str) -> Vec<String> {
    let python = std::env::var_os("LIFEBOAT_TEST_PYTHON").expect("it names a Python that has the clients");
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/bucket.py");
    let listed = Command::new(python)
        .args([program, "list", kind.scheme(), endpoint])
        .output();
    let listed = listed.expect("it can be run");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("names are text");
    names.lines().map(str::to_owned).collect()
}
