//! Deltas are packed and old backups removed while many restores are in the middle of their work: none fails, and none is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::etcd::{Etcd, Options};
use crate::support::host::{CLUSTER, Host, files_below};
use crate::support::load::Load;
use crate::support::random::Random;
use crate::support::running::{Running, until};
use crate::support::tools::Version;

use super::number;

const OFTEN: &str = "retention = { keep_last = 8 }\n\
    [schedules.full]\nkind = \"full\"\nevery = \"6s\"\njitter = \"0s\"\n\
    [schedules.tidy]\nkind = \"prune\"\nevery = \"15s\"\njitter = \"0s\"\n\
    [deltas]\nenabled = true\nevery = \"1s\"\nmark_every = \"1s\"\nmax_bytes = \"64KiB\"\npack_after = \"60s\"\n";

#[test]
#[ignore = "takes some minutes: make restores"]
fn what_is_packed_and_pruned_under_running_restores_fails_none() {
    let Some(etcd) = Etcd::start(Version::V3_6, Options::default()) else {
        return;
    };
    let client = etcd.client();
    let mut load = Load::new(51);
    load.run(&client, 20);
    let host = Host::new(&etcd);
    host.configure(&etcd, OFTEN);
    let agent = host.start(["agent"]);
    until("the first backup", || !windows(&host).is_empty());
    let background = load.in_background(client.clone());
    // As many backups as are kept, so that each one more has one removed; then fewer, so that the newest stay for minutes.
    let warmed = Instant::now();
    while windows(&host).len() < 8 {
        assert!(warmed.elapsed() < Duration::from_secs(300), "backups do not come");
        thread::sleep(Duration::from_secs(1));
    }
    host.reconfigure("every = \"6s\"", "every = \"50s\"");
    agent.signal("HUP");
    thread::sleep(Duration::from_secs(75));
    let many = usize::try_from(number("LIFEBOAT_RESTORES").unwrap_or(200)).unwrap();
    let mut random = Random::new(51);
    let mut restores: Vec<(String, i64, i64, Running)> = Vec::new();
    let before = names(&host);
    let begun = Instant::now();
    let mut known = windows(&host);
    // However slow the machine is, the two that are restored from stay.
    for (chain, ..) in &known[known.len() - 2..] {
        host.lifeboat(["pin", chain]).expect_code(0);
    }
    while restores.len() < many {
        if restores.len() % 25 == 24 {
            let pinned: Vec<String> = known[known.len() - 2..]
                .iter()
                .map(|(chain, ..)| chain.clone())
                .collect();
            known = windows(&host);
            known.retain(|(chain, ..)| pinned.contains(chain));
        }
        // Of the two that are pinned.
        let (chain, from, to) = &known[known.len() - 1 - usize::try_from(random.below(2)).unwrap()];
        let at = from + i64::try_from(random.below((to - from + 1).unsigned_abs())).unwrap();
        let hash = client.hash_kv(at).expect("nothing is compacted");
        let (identity, file) = (host.identity(), host.path(&format!("restored-{}.db", restores.len())));
        let restore = host.start([
            "--json",
            "export",
            "--identity",
            identity.to_str().unwrap(),
            &format!("{chain}:{at}"),
            file.to_str().unwrap(),
        ]);
        // Somewhere on its way.
        thread::sleep(Duration::from_millis(random.below(200)));
        if !restore.has_ended() {
            restore.signal("STOP");
        }
        restores.push((chain.clone(), at, i64::from(hash.hash), restore));
    }
    let stopped = restores.iter().filter(|(.., restore)| !restore.has_ended()).count();
    eprintln!(
        "{many} restores begun in {:?}, {stopped} of them on their way",
        begun.elapsed()
    );
    let of_them: Vec<String> = restores.iter().map(|(chain, ..)| chain.clone()).collect();
    let gone = |what: &str, of_them_alone: bool| {
        let now = names(&host);
        let is_gone = |name: &&String| name.contains(what) && !now.contains(*name);
        let is_meant = |name: &&String| !of_them_alone || of_them.iter().any(|chain| name.contains(chain.as_str()));
        before.iter().filter(is_gone).filter(is_meant).count()
    };
    let waited = Instant::now();
    // What they read is packed and removed, and other backups are.
    while gone(".delta", true) < 20 || gone("full-", false) < 2 {
        assert!(
            waited.elapsed() < Duration::from_secs(300),
            "too little is removed: {} deltas, {} backups",
            gone(".delta", true),
            gone("full-", false)
        );
        thread::sleep(Duration::from_secs(1));
    }
    let mut at_last: BTreeMap<i32, usize> = BTreeMap::new();
    restores.iter().for_each(|(.., restore)| {
        if !restore.has_ended() {
            restore.signal("CONT");
        }
    });
    let (_, done) = background.stop();
    let mut wrong = Vec::new();
    for (number, (chain, at, hash, restore)) in restores.into_iter().enumerate() {
        let ended = restore.wait();
        *at_last.entry(ended.code).or_default() += 1;
        let file = host.path(&format!("restored-{number}.db"));
        if ended.code != 0 {
            wrong.push(format!("{chain}:{at}: {}", ended.stderr));
            continue;
        }
        let inspected = host
            .lifeboat(["--json", "inspect", file.to_str().unwrap()])
            .expect_code(0)
            .json();
        let text = inspected.to_string();
        if inspected["hash_kv"]["hash"] != hash {
            wrong.push(format!("{chain}:{at}: hash {hash} was told, and it has {text}"));
        }
        fs::remove_file(&file).unwrap();
    }
    eprintln!(
        "{done} operations; removed under them: {} deltas of their chains, {} backups; exit codes {at_last:?}",
        gone(".delta", true),
        gone("full-", false)
    );
    assert!(wrong.is_empty(), "{} of {many}: {}", wrong.len(), wrong.join("\n"));
    agent.signal("TERM");
    agent.wait().expect_code(0);
}

/// The chains, oldest first, and their first and last revisions.
fn windows(host: &Host) -> Vec<(String, i64, i64)> {
    let listed = host.lifeboat(["--json", "list"]).json();
    let windows = listed["windows"].as_array().cloned().unwrap_or_default();
    let mut windows: Vec<(String, i64, i64)> = windows
        .iter()
        .map(|window| {
            let at = |name: &str| window[name].as_i64().unwrap();
            (
                window["chain"].as_str().unwrap().to_owned(),
                at("from_revision"),
                at("to_revision"),
            )
        })
        .collect();
    windows.sort();
    windows
}

/// What is stored.
fn names(host: &Host) -> Vec<String> {
    let all = files_below(&host.store().join(CLUSTER)).into_iter();
    all.map(|file| file.display().to_string()).collect()
}
