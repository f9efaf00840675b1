//! The rig checks itself: what other tests rely on must hold without the binary under test.

use super::etcd::{Etcd, Options, Security};
use super::load::Load;
use super::tools::Version;

#[test]
fn a_server_of_every_line_takes_the_load_and_serves_the_same_after_a_kill() {
    for version in Version::ALL {
        let Some(mut etcd) = Etcd::start(version, Options::default()) else {
            return;
        };
        let client = etcd.client();
        assert_eq!(
            client.version().expect("a running member has a status"),
            version.number()
        );
        let mut load = Load::new(7);
        load.run(&client, 150);
        let compacted = load.compact(&client);
        load.run(&client, 20);
        let before = (etcd.hash_kv_of_each(0), client.get_all().expect("all keys can be read"));
        assert_eq!(before.0[0].compact_revision, compacted);
        etcd.kill(0);
        etcd.boot();
        let after = (
            etcd.hash_kv_of_each(0),
            etcd.client().get_all().expect("all keys can be read"),
        );
        assert_eq!(before, after);
    }
}

#[test]
fn three_members_agree_and_one_that_is_added_catches_up() {
    let options = Options {
        members: 3,
        ..Options::default()
    };
    let Some(mut etcd) = Etcd::start(Version::V3_6, options) else {
        return;
    };
    let background = Load::new(8).in_background(etcd.client());
    Load::new(9).run(&etcd.client(), 100);
    let (_, done) = background.stop();
    assert!(done > 0, "the load ran meanwhile");
    etcd.add_member();
    let hashes = etcd.hash_kv_of_each(0);
    assert_eq!(hashes.len(), 4);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[test]
fn tls_and_passwords_keep_strangers_out() {
    for security in [Security::Tls, Security::Password] {
        let options = Options {
            security,
            ..Options::default()
        };
        let Some(etcd) = Etcd::start(Version::V3_5, options) else {
            return;
        };
        etcd.client()
            .put("/a", "b", 0)
            .expect("who has the credentials may write");
        let mut stranger = etcd.credentials.clone();
        match &mut stranger.tls {
            // It knows the authority, but the key it shows belongs to another certificate's holder: none that signs.
            Some(tls) => {
                let other = super::tls::Tls::generate(&etcd.members[0].data_dir.with_extension("strange"));
                (tls.client_cert, tls.client_key) = (other.client_cert, other.client_key);
            }
            None => stranger.user = None,
        }
        let endpoints = [etcd.members[0].client_url.clone()];
        let read = super::client::Client::connect(&endpoints, &stranger).and_then(|client| client.revision());
        assert!(read.is_err(), "{security:?}: {read:?}");
    }
}
