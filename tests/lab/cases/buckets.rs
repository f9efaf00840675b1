//! Hosts whose backups go to a bucket, on a real S3 server that all of them reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::restores::{assert_serves, written_and_backed_up};
use crate::cluster::{Cluster, DATA_DIR};
use crate::hosts::{Host, Lab, holds, until};
use crate::install::{CONFIG, IDENTITY, STATE, STORE, UNIT, enable, install, lifeboat, manifests};
use crate::support::client::wait_for;
use crate::support::moto::{Moto, SECRET};
use crate::support::recovery_sheet::{blocks, only};

/// Where hosts see this program.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);
const BUCKET: &str = "backups";
const KEYS: &str = "/etc/lifeboat/s3-keys";
/// The distance of the slots: longer than the last of three hosts lets the others go before it.
const SECONDS: i64 = 12;
/// How many slots the store is away for, and how many backups it keeps.
const AWAY: u64 = 10;
const KEPT: usize = 6;

/// The way from the hosts to a server on the loopback address, which can be shut: then every connection ends at once.
struct Door {
    port: u16,
    is_shut: Arc<AtomicBool>,
    passing: Arc<Mutex<Vec<TcpStream>>>,
}

impl Door {
    fn before(moto: &Moto) -> Door {
        let inside = moto.endpoint();
        let inside = inside.split_once("://").expect("a URL has a scheme").1.to_owned();
        let listener = TcpListener::bind((OUTSIDE, 0)).expect("a port is free");
        let door = Door {
            port: listener.local_addr().expect("it is bound").port(),
            is_shut: Arc::default(),
            passing: Arc::default(),
        };
        let (is_shut, passing) = (door.is_shut.clone(), door.passing.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_shut.load(Ordering::Relaxed) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(&inside) {
                    let mut passing = passing.lock().expect("nobody panics with it");
                    passing.extend([&client, &server].map(again));
                    pass(again(&client), again(&server));
                    pass(server, client);
                }
            }
        });
        door
    }

    fn shut(&self) {
        self.is_shut.store(true, Ordering::Relaxed);
        for stream in self.passing.lock().expect("nobody panics with it").drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn open(&self) {
        self.is_shut.store(false, Ordering::Relaxed);
    }
}

fn again(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a descriptor can be copied")
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        let mut block = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut block) {
            if to.write_all(&block[..read]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
    });
}

/// The destination `bucket` behind a door, and its keys on every host.
fn bucket_behind(door: &Door, more: &str) -> String {
    format!(
        "[destinations.bucket]\nurl = \"s3://{BUCKET}/etcd\"\nendpoint = \"http://{OUTSIDE}:{}\"\nregion = \"us-east-1\"\n\
         credentials = {{ file = \"{KEYS}\" }}\n{more}",
        door.port
    )
}

fn give_keys(cluster: &Cluster) {
    for host in &cluster.hosts {
        let keys = format!("aws_access_key_id = anybody\naws_secret_access_key = {SECRET}\n");
        host.write(KEYS, &keys);
        host.shell(&format!("chown root:lifeboat {KEYS} && chmod 640 {KEYS}"));
    }
}

/// The backups in the bucket, each slot with who took it. None has two.
#[track_caller]
fn taken(moto: &Moto) -> BTreeMap<Timestamp, String> {
    let mut slots = BTreeMap::new();
    for key in moto.keys(BUCKET) {
        let name = key.rsplit('/').next().unwrap_or_default();
        if !(name.starts_with("full-") && name.ends_with(".json")) {
            continue;
        }
        // One may be pruned meanwhile.
        let Some(text) = moto.find_object(BUCKET, &key) else {
            continue;
        };
        let manifest: Value = serde_json::from_str(&text).expect("it is written whole");
        let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
        let slot = text(&manifest["slot"]).parse().expect("it is an instant");
        let other = slots.insert(slot, text(&manifest["writer"]["host"]));
        assert_eq!(other, None, "two backups of slot {slot}");
    }
    slots
}

/// Waits until the newest slot that has a backup in the bucket is so many later.
#[track_caller]
fn wait_for_slots(moto: &Moto, more: i64) -> BTreeMap<Timestamp, String> {
    let newest = |slots: &BTreeMap<Timestamp, String>| slots.keys().next_back().map_or(0, |slot| slot.as_second());
    let before = newest(&taken(moto));
    until(&format!("backups of {more} more slots"), || {
        let now = taken(moto);
        let is_later = match before {
            0 => now.len() as i64 >= more,
            before => newest(&now) >= before + more * SECONDS,
        };
        holds(is_later, &now).map(|()| now)
    })
}

pub fn hosts_with_a_bucket_take_one_backup_a_slot_whoever_dies_and_though_it_was_away(lab: &Lab<'_>) {
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let door = Door::before(&moto);
    let cluster = Cluster::start(lab, 3);
    let schedule = format!("[schedules.often]\nkind = \"full\"\nevery = \"{SECONDS}s\"\njitter = \"0s\"\n");
    let kept = format!("[destinations.bucket.retention]\nkeep_last = {KEPT}\n");
    install(&cluster, &format!("{schedule}{}", bucket_behind(&door, &kept)));
    give_keys(&cluster);
    cluster.hosts.iter().for_each(enable);

    // Whoever takes the slots dies, and dies again.
    for _ in 0..2 {
        let slots = wait_for_slots(&moto, 2);
        let (_, on_duty) = slots.last_key_value().expect("it waited for some");
        let host = cluster.hosts.iter().find(|host| host.name == *on_duty);
        host.expect("it is one of ours")
            .run(["systemctl", "kill", "--signal=KILL", UNIT]);
    }
    wait_for_slots(&moto, 2);

    door.shut();
    thread::sleep(Duration::from_secs(AWAY * SECONDS.unsigned_abs()));
    for host in &cluster.hosts {
        let told = lifeboat(host, ["status"]);
        assert!(told.stdout.contains("bucket"), "{told}");
        assert!(!manifests(&host.path(STORE)).is_empty());
    }
    let before = taken(&moto);
    door.open();

    // The bucket has what retention wants: the newest slots, none left out, those of the outage too.
    let slots = until("the bucket to have caught up", || {
        let slots = taken(&moto);
        let seconds: Vec<i64> = slots.keys().map(|slot| slot.as_second()).collect();
        let is_gapless = seconds.windows(2).all(|pair| pair[1] - pair[0] == SECONDS);
        let is_newer = slots.keys().next_back() > before.keys().next_back();
        holds(is_newer && is_gapless && slots.len() == KEPT, &slots).map(|()| slots)
    });
    assert!(
        slots.keys().next_back() > before.keys().next_back(),
        "{before:?} {slots:?}"
    );
    until("all to be well again", || {
        let told: Vec<_> = cluster.hosts.iter().map(|host| lifeboat(host, ["status"])).collect();
        holds(told.iter().all(|told| told.code == 0), told)
    });

    // Nothing is left of what the dead had begun, but for what is younger than a sweep takes.
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", UNIT]);
    }
    taken(&moto);
    assert_eq!(moto.open_uploads(BUCKET), [""; 0]);
}

pub fn hosts_that_lost_everything_come_back_by_the_recovery_sheet_alone(lab: &Lab<'_>) {
    let Some(moto) = Moto::start() else { return };
    moto.make_bucket(BUCKET);
    let door = Door::before(&moto);
    let cluster = Cluster::start(lab, 3);
    install(&cluster, &bucket_behind(&door, ""));
    give_keys(&cluster);
    let (_, before) = written_and_backed_up(&cluster);
    let first = &cluster.hosts[0];
    let sheet = lifeboat(first, ["recovery-sheet"]).expect_code(0).stdout;
    assert!(!sheet.contains(SECRET), "{sheet}");
    let key = fs::read_to_string(first.path(IDENTITY)).expect("it was made");

    // The site burns down. What is kept elsewhere: the sheet, the identity, the keys of the bucket, the package.
    for host in &cluster.hosts {
        host.run(["systemctl", "stop", "etcd"]);
        host.shell(&format!(
            "rm -rf {DATA_DIR} {CONFIG} /etc/lifeboat/* {STATE}/* {STORE}/* {IDENTITY}"
        ));
        host.write("/root/backup-key.txt", &key);
    }
    let blocks = blocks(&sheet);
    let typed = [
        only(&blocks, &format!("FROM=s3://{BUCKET}")),
        only(&blocks, "AWS_ACCESS_KEY_ID &&"),
        only(&blocks, "lifeboat list"),
        only(&blocks, "lifeboat restore"),
    ];
    let answers = format!("anybody\n{SECRET}\nyes\n");
    thread::scope(|scope| {
        for host in &cluster.hosts {
            let (lines, answers) = (typed.join("\n"), &answers);
            scope.spawn(move || type_at(host, &lines, answers));
        }
    });
    cluster.wait_until_served();
    assert_serves(&cluster, &before);
    let id = |host| {
        let status = wait_for(cluster.client_of(host).raw().status()).expect("it serves");
        status.header().map(|header| header.cluster_id())
    };
    let ids: BTreeSet<Option<u64>> = cluster.hosts.iter().map(id).collect();
    assert_eq!(ids.len(), 1, "they are one cluster");
}

/// Types lines at a terminal, at home, and answers what is asked.
#[track_caller]
fn type_at(host: &Host, lines: &str, answers: &str) {
    host.write("/root/typed", &format!("set -eu\n{lines}\n"));
    host.write("/root/answers", answers);
    // A pipe that stays open: at the end of its input `script` would wait for two seconds.
    let at_a_terminal = "cd && rm -f .answers && mkfifo .answers && exec 3<>.answers && cat answers >&3 && \
                         exec script --quiet --return --command 'bash typed' /dev/null <&3";
    host.run(["sh", "-c", at_a_terminal]);
}
