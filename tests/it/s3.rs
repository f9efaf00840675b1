//! Destinations in an object store: the same life as in a directory, on a real S3 server.

use std::fs;

use super::support::etcd::Etcd;
use super::support::host::Host;
use super::support::moto::{Moto, SECRET};
use super::support::shared;

const BUCKET: &str = "backups";

/// A host whose destination `bucket`, beside `local`, is in this server; `more` is what else is configured of it.
fn host_with(etcd: &Etcd, moto: &Moto, more: &str) -> Host {
    let host = Host::new(etcd);
    let keys = host.path("s3-keys");
    fs::write(
        &keys,
        format!("aws_access_key_id = anybody\naws_secret_access_key = {SECRET}\n"),
    )
    .unwrap();
    let (endpoint, keys) = (moto.endpoint(), keys.display());
    host.configure(
        etcd,
        &format!(
            "[destinations.bucket]\nurl = \"s3://{BUCKET}/etcd\"\nendpoint = \"{endpoint}\"\n\
             credentials = {{ file = \"{keys}\" }}\n{more}"
        ),
    );
    host
}

#[test]
fn a_backup_goes_to_a_bucket_as_it_goes_to_a_directory() {
    let Some(etcd) = shared::unchanging() else { return };
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let host = host_with(etcd, &moto, "");
    let id = host.backup();
    let names = |names: Vec<String>| -> Vec<String> { names.into_iter().filter(|name| name.contains(&id)).collect() };
    let files = host
        .stored_files()
        .iter()
        .map(|file| format!("etcd/{}", file.display()))
        .collect();
    assert_eq!(names(moto.keys(BUCKET)), names(files));
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
    for destination in ["local", "bucket"] {
        let listed = host
            .lifeboat(["--json", "list", "--destination", destination])
            .expect_code(0)
            .json();
        assert_eq!(listed["backups"][0]["id"], id.as_str(), "{listed}");
        assert_eq!(listed["backups"][0]["proof"], "stored", "{listed}");
    }
}
