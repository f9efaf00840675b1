//! Which member is this host.

use super::*;

fn host(name: &str, addresses: &[&str]) -> ThisHost {
    ThisHost {
        name: name.to_owned(),
        addresses: addresses
            .iter()
            .map(|address| address.parse::<IpAddr>().unwrap())
            .collect(),
    }
}

#[test]
fn the_local_member_is_found_by_the_first_rule_that_decides() {
    let members = "
        [members.m1]\npeer_urls = ['http://127.0.0.1:2380', 'http://10.0.0.1:2380']
        [members.m2]\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.2:2380', 'http://[fd00::2]:2380']
        [members.'m3.example.com']\nclient_urls = ['http://h:1']\npeer_urls = ['http://db3.example.com:2380']
        [members.'m4.a']\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.4:2380']
        [members.'m4.b']\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.5:2380']
        [members.m5]\nclient_urls = ['http://h:1']\npeer_urls = ['http://10.0.0.5:2380']\nenabled = false";
    let config = valid(&[LEAST, members]);
    for (name, addresses, member, because) in [
        ("m1", &[][..], "m1", Because::HostName),
        ("M1.example.com", &["10.0.0.2"], "m1", Because::HostName),
        ("m3.example.com", &[], "m3.example.com", Because::HostName),
        ("m3", &[], "m3.example.com", Because::HostName),
        ("m4.b", &[], "m4.b", Because::HostName),
        ("db2", &["127.0.0.1", "10.0.0.2"], "m2", Because::PeerAddress),
        ("db2", &["fd00::2"], "m2", Because::PeerAddress),
        ("db2", &["::ffff:10.0.0.2"], "m2", Because::PeerAddress),
        ("db3", &[], "m3.example.com", Because::PeerAddress),
        ("m4", &["10.0.0.4"], "m4.a", Because::PeerAddress),
        ("m5", &["10.0.0.5"], "m4.b", Because::PeerAddress),
    ] {
        let found = config.local_member(&host(name, addresses));
        assert_eq!(
            found,
            LocalMember::Is(member.parse().unwrap(), because),
            "{name} {addresses:?}"
        );
    }
    for nowhere in [
        host("", &[]),
        host("db9", &["127.0.0.1", "::1"]),
        host("m", &["10.0.0.9"]),
        host("localhost", &[]),
    ] {
        assert_eq!(config.local_member(&nowhere), LocalMember::None);
    }
    let several = config.local_member(&host("m4", &[]));
    assert_eq!(
        several.to_string(),
        "no local member: `m4.a` and `m4.b` all match this host, and `host.member` is not set"
    );
    let several = config.local_member(&host("db", &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(
        several,
        LocalMember::Ambiguous(vec!["m1".parse().unwrap(), "m2".parse().unwrap()])
    );
    let configured = valid(&[LEAST, members, "host.member = 'm2'"]).local_member(&host("m1", &["10.0.0.1"]));
    assert_eq!(configured.to_string(), "local member `m2` (by `host.member`)");
}

#[test]
fn an_only_member_at_a_loopback_address_is_this_hosts_whatever_that_is_called() {
    let found = |members: &str| valid(&[LEAST, members]).local_member(&host("h1", &["10.0.0.1"]));
    let only = found("[members.m1]\nclient_urls = ['http://127.0.0.1:2379', 'http://[::1]:2379']");
    assert_eq!(only, LocalMember::Is("m1".parse().unwrap(), Because::OnlyOne));
    assert_eq!(
        only.to_string(),
        "local member `m1` (the only one, at a loopback address)"
    );
    // It may be anywhere.
    assert_eq!(
        found("[members.m1]\nclient_urls = ['http://db1:2379']"),
        LocalMember::None
    );
    assert_eq!(
        found("[members.m1]\nclient_urls = ['http://127.0.0.1:2379', 'http://db1:2379']"),
        LocalMember::None
    );
    // The same file is on several hosts: whose loopback is meant?
    let several = "[members.m1]\nclient_urls = ['http://127.0.0.1:2379']\n\
                   [members.m2]\nclient_urls = ['http://127.0.0.1:2379']";
    assert_eq!(found(several), LocalMember::None);
}

#[test]
fn this_host_has_a_loopback_address() {
    let this = ThisHost::ask().unwrap();
    assert!(this.addresses.iter().any(IpAddr::is_loopback), "{this:?}");
}
