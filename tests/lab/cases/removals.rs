//! What is removed outside of a restore and its release: killed before each call of the kernel that removes something, the
//! same command run again does all of it. The name under which a check or a claim was being written is swept by its age.

use std::fs;

use super::OFTEN;
use super::restores::{KEY, written_and_backed_up};
use crate::cluster::Cluster;
use crate::hosts::{Done, Host, Lab, holds, until};
use crate::install::{CLUSTER, STATE, STORE, UNIT, enable, ids, install, lifeboat};

/// A store that hosts share, which has claims.
const SHARED: &str = "/srv/shared";
/// More than anything removes here.
const MOST_CALLS: usize = 60;

/// Something that is removed, in lines of shell, which know a backup as `$ID`.
struct Removal {
    what: &'static str,
    /// What makes it.
    made_by: &'static str,
    /// What removes it.
    removed_by: &'static str,
    /// How that may end when it is run again.
    ends: &'static [i32],
    /// What holds then.
    is_right: &'static str,
}

const REMOVALS: &[Removal] = &[
    Removal {
        what: "a pin",
        made_by: "lifeboat pin $ID",
        removed_by: "lifeboat unpin $ID",
        ends: &[0],
        is_right: "! find $STORE -name pin.json | grep .",
    },
    Removal {
        what: "an older check",
        made_by: "lifeboat verify $ID",
        removed_by: "lifeboat verify --identity $KEY $ID",
        ends: &[0],
        is_right: "test $(find $STORE -path \"*/$ID/checks/*.json\" | wc -l) = 1 && lifeboat show $ID | grep -q hash_kv",
    },
    Removal {
        what: "the record of a chain and the names under which its files were written",
        made_by: "true",
        removed_by: "lifeboat backup --to local",
        ends: &[0],
        is_right: "! find $STATE/chains -type f | grep . && ! find $STORE -name '.full*.partial' | grep . && \
                   for chain in $(find $STORE -name full.db.zst.age -printf '%h\\n'); \
                   do ls $chain/full-*.json >/dev/null || exit 1; done",
    },
    Removal {
        what: "claims of slots long past",
        made_by: "rm -rf $SHARED/slots && cp -a /root/slots $SHARED/",
        removed_by: "lifeboat backup --to shared",
        ends: &[0],
        is_right: "test ! -e $SHARED/slots/often && ! find $SHARED -name '.full*.partial' | grep .",
    },
    Removal {
        what: "what a rebuild that died has left",
        made_by: "rm -rf /root/data*; strace -f -qq -o /dev/null \
                  --inject=rename,renameat,renameat2:signal=KILL:when=1 -- $REBUILD; find /root -name '*.partial-*' | grep .",
        removed_by: "$REBUILD",
        // Killed once the data has its name, it finds that there.
        ends: &[0, 7],
        is_right: "test -d /root/data/member/wal && ! find /root -path '*.partial-*' -type f | grep .",
    },
];

pub fn what_removes_something_and_is_killed_at_any_call_does_it_when_it_is_run_again(lab: &Lab<'_>) {
    let cluster = Cluster::start(lab, 1);
    let host = &cluster.hosts[0];
    install(
        &cluster,
        &format!("[destinations.shared]\nurl = \"file://{SHARED}\"\nshared = true\n{OFTEN}"),
    );
    host.run(["install", "--directory", "--owner=lifeboat", SHARED]);
    let lets_in = format!("[Service]\nReadWritePaths={SHARED}\n");
    host.write("/etc/systemd/system/lifeboat.service.d/lab.conf", &lets_in);
    host.run(["systemctl", "daemon-reload"]);
    make_old_claims(host);
    let (id, _) = written_and_backed_up(&cluster);
    for removal in REMOVALS {
        let mut deaths = 0;
        loop {
            shell(host, &id, removal.made_by).expect_code(0);
            let number = deaths + 1;
            let killed = format!(
                "strace --follow-forks --quiet=all --output=/root/trace --trace=unlink,unlinkat,rmdir \
                 --inject=unlink,unlinkat,rmdir:signal=KILL:when={number} -- {}",
                removal.removed_by
            );
            let done = shell(host, &id, &killed);
            if done.code == 0 {
                break;
            }
            let at = format!("{}, before call {number}: {done}", removal.what);
            assert!(!(1..=78).contains(&done.code), "it was to be killed: {at}");
            // What is there can be read, and is whole.
            assert!(ids(host).contains(&id), "{at}");
            let again = shell(host, &id, removal.removed_by);
            assert!(removal.ends.contains(&again.code), "{at}: {again}");
            let right = shell(host, &id, removal.is_right);
            assert_eq!(right.code, 0, "{at}: {right}");
            deaths = number;
            assert!(deaths < MOST_CALLS, "{at}: it has no end");
        }
        assert!(deaths > 0, "{}: nothing is removed", removal.what);
        shell(host, &id, removal.is_right).expect_code(0);
    }
    lifeboat(host, ["verify", "--all"]).expect_code(0);
}

/// Has an agent claim slots, as they were long ago.
fn make_old_claims(host: &Host) {
    enable(host);
    let slots = host.path(&format!("{SHARED}/{CLUSTER}/slots/often"));
    until("three slots to be claimed", || {
        let claims = fs::read_dir(&slots).map_or(0, Iterator::count);
        holds(claims >= 3, claims)
    });
    host.run(["systemctl", "disable", "--now", "--quiet", UNIT]);
    host.shell(&format!(
        "cd {SHARED}/{CLUSTER} && find slots -type f -exec touch --date='8 days ago' {{}} + && cp -a slots /root/slots"
    ));
}

fn shell(host: &Host, id: &str, line: &str) -> Done {
    let known = format!(
        "ID={id} KEY={KEY} STORE={STORE} STATE={STATE}/{CLUSTER} SHARED={SHARED}/{CLUSTER}; \
         REBUILD=\"lifeboat rebuild $ID --identity {KEY} --data-dir /root/data --name m1 \
         --initial-cluster m1=http://10.77.0.1:2380 --initial-cluster-token t1 \
         --initial-advertise-peer-urls http://10.77.0.1:2380\"; {line}"
    );
    host.run_any(["bash", "-c", &known])
}
