//! Destinations in OpenStack's Swift, on real servers: `make test-stores` installs and starts them, and names them in
//! `LIFEBOAT_TEST_SWIFT`: the URL of TempAuth, whose tokens live for seconds, that of Keystone, and the file of an application
//! credential.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use lifeboat::layout::{Listed, ObjectName};
use lifeboat::secret::Secret;
use lifeboat::store::{Access, Begun, Bucket, BucketKind, BucketOptions, Error, Location, Store};
use serde_json::Value;

use super::stores::conformance;
use super::support::etcd::{Etcd, Options};
use super::support::host::Host;
use super::support::life::{self, Away};
use super::support::tools::Version;

const PART: u64 = 5 << 20;

/// One who asks a server, by a token.
pub struct Client {
    token: String,
    storage: String,
}

/// The headers, in small letters, and the body of an answer, which must be a good one.
fn ask(args: &[&str]) -> (String, String) {
    let ran = Command::new("curl")
        .args(["-sSi", "--fail-with-body"])
        .args(args)
        .output();
    let ran = ran.expect("curl is needed");
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{args:?}: {text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_owned(), body.to_owned())
}

fn header(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    values
        .next()
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        .1
        .to_owned()
}

impl Client {
    pub fn new(tempauth: &str) -> Client {
        let (head, _) = ask(&["-H", "X-Auth-User: test:tester", "-H", "X-Auth-Key: testing", tempauth]);
        Client {
            token: header(&head, "X-Auth-Token"),
            storage: header(&head, "X-Storage-Url"),
        }
    }

    /// As an operator does, who has the tools of OpenStack.
    pub fn of_keystone(keystone: &str) -> Client {
        let body = "{\"auth\":{\"identity\":{\"methods\":[\"password\"],\"password\":{\"user\":{\"name\":\"keeper\",\
                    \"domain\":{\"id\":\"default\"},\"password\":\"testing\"}}},\"scope\":{\"project\":{\"name\":\"backups\",\
                    \"domain\":{\"id\":\"default\"}}}}}";
        let tokens = format!("{keystone}/auth/tokens");
        let (head, body) = ask(&["-H", "Content-Type: application/json", "-d", body, &tokens]);
        let token: Value = serde_json::from_str(&body).unwrap();
        let catalog = token["token"]["catalog"].as_array().unwrap();
        let swift = catalog
            .iter()
            .find(|service| service["type"] == "object-store")
            .unwrap();
        Client {
            token: header(&head, "X-Subject-Token"),
            storage: swift["endpoints"][0]["url"].as_str().unwrap().to_owned(),
        }
    }

    pub fn ask(&self, method: &str, path: &str, more: &[&str]) -> String {
        let (token, url) = (
            format!("X-Auth-Token: {}", self.token),
            format!("{}/{path}", self.storage),
        );
        ask(&[&["-X", method, "-H", &token, &url], more].concat()).1
    }

    /// The names in a container, in order.
    fn names(&self, container: &str) -> Vec<String> {
        self.ask("GET", container, &[]).lines().map(str::to_owned).collect()
    }

    /// How many segments it holds.
    fn segments(&self, container: &str) -> usize {
        let names = self.names(container).into_iter();
        names.filter(|name| name.contains("/.segments/")).count()
    }
}

/// More than two parts of an object.
fn of_three_segments() -> Vec<u8> {
    (0..2 * PART + 1234).map(|i| (i % 251) as u8).collect()
}

/// The servers: TempAuth, Keystone, and the file of an application credential.
pub fn servers() -> (String, String, String) {
    let servers = std::env::var("LIFEBOAT_TEST_SWIFT").expect("it names the servers");
    let [tempauth, keystone, credential] = servers.split(',').collect::<Vec<_>>().try_into().expect("three");
    (tempauth.to_owned(), keystone.to_owned(), credential.to_owned())
}

/// A name that nothing has had yet.
pub fn anew(what: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("{what}-{}", since.as_nanos())
}

fn location(container: &str, credentials: &Path) -> Location {
    Location::Bucket(Box::new(Bucket {
        kind: BucketKind::Swift,
        name: container.to_owned(),
        prefix: anew("run"),
        options: BucketOptions {
            part_size: PART,
            credentials: Some(Secret::File(credentials.to_owned())),
            ..BucketOptions::default()
        },
    }))
}

fn open(location: &Location) -> Result<Store, Error> {
    let access = Access::Write { now: Timestamp::now() };
    Store::open(location, &"prod".parse().unwrap(), None, access)
}

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_of_swift_keep_the_promises_of_every_store() {
    let (tempauth, keystone, credential) = servers();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let by_password = "OS_USERNAME=keeper\nOS_PASSWORD=testing\nOS_PROJECT_NAME=backups\n";
    let credential = fs::read_to_string(credential).unwrap();
    let version_1 = format!("ST_AUTH={tempauth}\nST_USER=test:tester\nST_KEY=testing\n");
    Client::new(&tempauth).ask("PUT", "backups", &[]);
    Client::of_keystone(&keystone).ask("PUT", "backups", &[]);
    for (what, credentials) in [
        ("TempAuth", version_1),
        (
            "Keystone, a password",
            format!("export OS_AUTH_URL={keystone}\n{by_password}"),
        ),
        (
            "Keystone, an application credential",
            format!("OS_AUTH_URL={keystone}\nOS_REGION_NAME=here\nOS_INTERFACE=internal\n{credential}"),
        ),
    ] {
        println!("{what}");
        fs::write(&file, credentials).unwrap();
        let location = location("backups", &file);
        conformance::conforms(&|| open(&location).unwrap(), PART, true);
    }
}

fn full() -> ObjectName {
    "ab/20261120T101530Z-9f3c4a1b/full.db.zst.age".parse().unwrap()
}

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_of_swift_keep_no_segments_that_nothing_names() {
    let (tempauth, ..) = servers();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    fs::write(
        &file,
        format!("ST_AUTH={tempauth}\nST_USER=test:tester\nST_KEY=testing\n"),
    )
    .unwrap();
    let container = anew("segments");
    let client = || Client::new(&tempauth);
    client().ask("PUT", &container, &[]);
    let location = location(&container, &file);
    let store = open(&location).unwrap();
    let content = of_three_segments();
    let segments = || client().segments(&container);
    // They go with the object.
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(&content).unwrap();
    upload.commit().unwrap();
    assert_eq!(segments(), 3);
    assert_eq!(store.read_back(&full()).unwrap().bytes, content.len() as u64);
    let listed = store.list().unwrap();
    assert!(
        listed.iter().any(|object| object.bytes == content.len() as u64),
        "{listed:?}"
    );
    let another = store.begin(&full()).map(|mut upload| {
        upload.write_all(&content).unwrap();
        upload.commit()
    });
    assert!(matches!(another, Ok(Err(Error::AlreadyExists { .. }))), "{another:?}");
    assert_eq!(segments(), 3, "those of who came second have gone");
    store.remove(&full()).unwrap();
    assert_eq!(segments(), 0);
    // And so they do with what follows a backup.
    for name in [
        "00000000000000000008-00000000000000000009.00000001.delta",
        "00000000000000000008-00000000000000000010.00000001.pack",
    ] {
        let name: ObjectName = format!("ab/20261120T101530Z-9f3c4a1b/{name}").parse().unwrap();
        let each = |_| std::ops::ControlFlow::Continue(());
        store
            .write_stream(&name, std::io::Cursor::new(content.clone()), each)
            .unwrap();
        assert_eq!(segments(), 3, "{name}");
        store.remove(&name).unwrap();
        assert_eq!(segments(), 0, "{name}");
    }
    // Those of a run that was killed are found by a sweep, and by no listing.
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(&content).unwrap();
    std::mem::forget(upload);
    while segments() < 2 {
        thread::yield_now();
    }
    let listed = store.list().unwrap();
    assert!(
        listed
            .iter()
            .all(|object| matches!(&object.name, Listed::Ours(name) if *name == ObjectName::StoreMarker))
    );
    let begun = Begun {
        dead: [full().chain().unwrap().chain.clone()].into(),
        ..Begun::default()
    };
    let swept = store.sweep(&begun).unwrap();
    // What was written just now may be in use for all that a listing tells.
    assert!(swept.len() <= 1, "{swept:?}");
    // Another run completes the same object: they are not of it, and do not go with it.
    let left = segments();
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(&content).unwrap();
    upload.commit().unwrap();
    let unfinished = || store.unfinished().unwrap().unwrap().len();
    assert_eq!((segments(), unfinished()), (left + 3, 1));
    store.remove(&full()).unwrap();
    assert_eq!((segments(), unfinished()), (left, 1));
    // A container that is not there is named.
    let nowhere = self::location(&anew("nowhere"), &file);
    assert!(matches!(open(&nowhere), Err(Error::NoBucket { .. })));
    fs::write(
        &file,
        format!("ST_AUTH={tempauth}\nST_USER=test:tester\nST_KEY=wrong\n"),
    )
    .unwrap();
    assert!(matches!(open(&location), Err(Error::Refused { .. })));
}

/// Stands before a server, and breaks the connection of each request for a large object's manifest when the server has done it.
struct Breaking {
    port: u16,
    breaks: Arc<AtomicBool>,
}

impl Breaking {
    fn before(server: &str) -> Breaking {
        let address = server
            .strip_prefix("http://")
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, breaks) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let told = breaks.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&address) else {
                    continue;
                };
                let (back, forth) = (
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                    (client, server),
                );
                let (breaks, is_hit) = (told.clone(), Arc::new(AtomicBool::new(false)));
                let hit = is_hit.clone();
                let is_manifest = move |bytes: &[u8]| bytes.windows(18).any(|part| part == b"multipart-manifest");
                thread::spawn(move || {
                    pass(forth, |bytes| {
                        if breaks.load(Ordering::Relaxed) && is_manifest(bytes) {
                            hit.store(true, Ordering::Relaxed);
                        }
                        true
                    });
                });
                thread::spawn(move || pass(back, |_| !is_hit.load(Ordering::Relaxed)));
            }
        });
        Breaking { port, breaks }
    }
}

/// Hands on what comes, until one of both ends or `goes_on` says no: then both are ended.
fn pass((mut from, mut to): (TcpStream, TcpStream), goes_on: impl Fn(&[u8]) -> bool) {
    let mut block = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut block) {
        let bytes = &block[..read];
        if read == 0 || !goes_on(bytes) || to.write_all(bytes).is_err() {
            break;
        }
    }
    for end in [&from, &to] {
        end.shutdown(Shutdown::Both).ok();
    }
}

#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_of_swift_keep_the_segments_of_an_object_of_which_nobody_has_heard() {
    let (tempauth, ..) = servers();
    let proxy = Breaking::before(&tempauth);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let keys = "ST_USER=test:tester\nST_KEY=testing\n";
    fs::write(
        &file,
        format!("ST_AUTH=http://127.0.0.1:{}/auth/v1.0\n{keys}", proxy.port),
    )
    .unwrap();
    let container = anew("unheard");
    let client = || Client::new(&tempauth);
    client().ask("PUT", &container, &[]);
    let store = open(&location(&container, &file)).unwrap();
    let content = of_three_segments();
    let segments = || client().segments(&container);
    let mut upload = store.begin(&full()).unwrap();
    upload.write_all(&content).unwrap();
    // The object is there; neither that is heard, nor what it is made of.
    proxy.breaks.store(true, Ordering::Relaxed);
    upload.commit().unwrap_err();
    proxy.breaks.store(false, Ordering::Relaxed);
    assert_eq!(segments(), 3);
    assert_eq!(store.read_back(&full()).unwrap().bytes, content.len() as u64);
    store.remove(&full()).unwrap();
    assert_eq!(segments(), 0);
}

/// By a user who may read and write in one container, as `docs/stores.md` has it, and nothing else.
#[test]
#[ignore = "needs servers: make test-stores"]
fn real_servers_of_swift_and_the_whole_life_of_backups() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let (tempauth, ..) = servers();
    let container = anew("life");
    let client = || Client::new(&tempauth);
    let rights = [
        "-H",
        "X-Container-Read: test:writer",
        "-H",
        "X-Container-Write: test:writer",
    ];
    client().ask("PUT", &container, &rights);
    let host = Host::new(&etcd);
    fs::write(host.path("keys"), "ST_USER=test:writer\nST_KEY=testing\n").unwrap();
    let url = format!("swift://{container}/etcd");
    let table = format!(
        "[destinations.away]\nurl = \"{url}\"\nendpoint = \"{tempauth}\"\ncredentials = {{ file = {:?} }}\n\
         part_size = \"5 MiB\"\n[destinations.away.retention]\nkeep_last = 1\n",
        host.path("keys")
    );
    host.configure(&etcd, &table);
    let database = etcd.client();
    // More than a segment.
    for number in 0..8 {
        let mut state: u64 = number;
        let value: Vec<u8> = std::iter::repeat_with(|| {
            // Nothing that a compressor finds small.
            state = u64::wrapping_add(state.wrapping_mul(6_364_136_223_846_793_005), 1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(1_000_000)
        .collect();
        database.put(&format!("/large/{number}"), value, 0).unwrap();
    }
    let names = || client().names(&container);
    let away = Away {
        name: "away",
        url: &url,
        environment: &[
            ("ST_AUTH", tempauth.as_ref()),
            ("ST_USER", "test:writer".as_ref()),
            ("ST_KEY", "testing".as_ref()),
        ],
        of_backup: &|id| names().into_iter().filter(|name| name.contains(id)).collect(),
    };
    life::lead(&host, &database, &away);
    assert!(names().iter().any(|name| name.contains("/.segments/")), "{:?}", names());
}
