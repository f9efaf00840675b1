//! Who of a cluster runs and who serves, before anything is done.

use std::thread;
use std::time::Instant;

use lifeboat::restore::look_for_clusters;

use super::*;

#[test]
fn a_member_without_a_leader_is_given_one_election_however_many_addresses_it_has() {
    let options = Options {
        members: 2,
        ..Options::default()
    };
    let Some(mut etcd) = Etcd::start(Version::V3_5, options) else {
        return;
    };
    etcd.kill(1);
    let member = &etcd.members[0];
    let (name, peer_url) = (member.name.clone(), member.peer_url.clone());
    // The same server by other names, which are addresses of their own.
    let url = |host: &str| member.client_url.replace("127.0.0.1", host);
    let others = ["localhost", "LOCALHOST"].map(url).to_vec();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    // Its leader is gone for sure.
    thread::sleep(Duration::from_secs(3));
    let began = Instant::now();
    let found = runtime.block_on(look_for_clusters(
        &[(name.clone(), peer_url)],
        &[(name, others)],
        &Access::default(),
    ));
    let took = began.elapsed();
    let [cluster] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((cluster.running().count(), cluster.well().count()), (1, 0), "{found:?}");
    assert!(took >= Duration::from_secs(4), "it is given one: {took:?}");
    assert!(took < Duration::from_secs(9), "an election takes 5 s: {took:?}");
}
