//! Restores on a host with a real etcd under an init system of the tests' own: to the end, back, and killed at each step.

mod around;
mod given_up;
mod holds;
mod missing;
mod refused;
mod three_hosts;

use std::cell::RefCell;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lifeboat::etcd_settings::Overlay;
use lifeboat::model::{ClusterId, Digest, Revision};
use lifeboat::rebuild::{DigestRule, Rewrite};
use lifeboat::restore::{
    Access, Backup, BumpRule, Error, GiveUp, Guarded, Kept, Ledger, LedgerError, LedgerPaths, LedgerStore, Nonce,
    Outcome, Patience, Plan, PlannedFile, Run, Site, Step, Tools, Units as _, Wish, decide_bump, kept_path, made_path,
    owner_of, releasable, release, release_stray,
};
use lifeboat::source::Source;
use sha2::Digest as _;

use super::support::client::Client;
use super::support::etcd::{Etcd, Member, Options};
use super::support::host::copy_tree;
use super::support::running::until;
use super::support::tmpfs::Tmpfs;
use super::support::tools::Version;
use super::support::units::{FakeUnits, UNIT};

/// A snapshot of another cluster, and the revision that it holds.
const SNAPSHOT: &str = "tests/vectors/fixtures/etcd-3.4.23-rev346-compact150.snap";
const REVISION: i64 = 346;
/// What only the old data has.
const OLD_KEY: &str = "/only/in/the/old";

/// A host with one member of a cluster, its unit, and a place for ledgers.
struct Bench {
    etcd: Arc<Etcd>,
    /// Which member.
    index: usize,
    home: PathBuf,
    units: FakeUnits,
    ledger_paths: LedgerPaths,
    wal_dir: Option<PathBuf>,
    runtime: tokio::runtime::Runtime,
    access: Access,
}

impl Bench {
    /// With an etcd that runs and has a key.
    fn running(members: usize) -> Option<Bench> {
        let bench = Bench::stopped(members)?;
        bench.units.start(UNIT).expect("it starts");
        if members == 1 {
            bench.wait_until_served();
            bench.client().put(OLD_KEY, "old", 0).expect("it takes writes");
        }
        Some(bench)
    }

    fn stopped(members: usize) -> Option<Bench> {
        let options = Options {
            members,
            ..Options::default()
        };
        let etcd = Arc::new(Etcd::plan(Version::V3_5, options)?);
        let home = etcd.directory().to_owned();
        Some(Bench::of(etcd, 0, home))
    }

    /// The host of one member, whose own things are in `home`.
    fn of(etcd: Arc<Etcd>, index: usize, home: PathBuf) -> Bench {
        let ledger_paths = LedgerPaths {
            folder: home.join("restore"),
            notice: home.join("run/open"),
        };
        let units = FakeUnits::of(&etcd, index, &home);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be started");
        Bench {
            etcd,
            index,
            home,
            units,
            ledger_paths,
            wal_dir: None,
            runtime,
            access: Access::default(),
        }
    }

    fn member(&self) -> &Member {
        &self.etcd.members[self.index]
    }

    /// What a boot takes away.
    fn lose_run(&self) {
        let run = self.ledger_paths.notice.parent().expect("it has one");
        fs::remove_dir_all(run).ok();
    }

    fn data_dir(&self) -> &Path {
        &self.member().data_dir
    }

    fn client(&self) -> Client {
        Client::connect(std::slice::from_ref(&self.member().client_url), &Default::default())
            .expect("it is only prepared")
    }

    fn serves(&self) -> bool {
        self.client().probe().is_ok()
    }

    fn wait_until_served(&self) {
        until("etcd serves", || self.serves());
    }

    fn ledger(&self, number: u32) -> Ledger {
        let snapshot = fs::read(SNAPSHOT).expect("it is a fixture");
        let home = &self.home;
        let revision = Revision::new(REVISION).expect("it is one");
        let plan = Plan::new(Wish {
            id: lifeboat::restore::RestoreId::new("2026-11-20T10:15:30Z".parse().expect("it is one"), number),
            backup: Backup {
                name: SNAPSHOT.to_owned(),
                chain: None,
                lineage: None,
                taken_at: None,
                cluster: Some(ClusterId(u64::from(number))),
                etcd_version: None,
                sha256: Digest(sha2::Sha256::digest(&snapshot).into()),
                bytes: snapshot.len() as u64,
                revision,
                full: None,
                hash_kv: None,
            },
            members: self.etcd.initial_cluster().parse().expect("it is one"),
            bump: decide_bump(BumpRule::Never),
            token: None,
            nonce: nonce(),
            site: Site {
                member: self.member().name.clone(),
                unit: UNIT.to_owned(),
                owner: owner_of(home).expect("it is there").expect("it is there"),
                data_dir: self.data_dir().to_owned(),
                wal_dir: self.wal_dir.clone(),
                client_urls: vec![self.member().client_url.clone()],
                listen_peer_urls: vec![self.member().peer_url.clone()],
                etcd_line: None,
                etcd_version: None,
                quota_bytes: None,
            },
            rewrite: Rewrite::Not,
            in_place: None,
            health_timeout: Duration::from_secs(60),
        })
        .expect("nothing is wrong with it");
        let overlay = Overlay {
            environment_file: home.join("restore.env"),
            drop_in: self.units.drop_in("50-lifeboat.conf"),
            restore: plan.host.id.to_string(),
            initial_cluster: plan.initial_cluster().expect("it was just planned"),
            advertise_peer_urls: plan.own_peer_urls().to_vec(),
        };
        let guard = PlannedFile {
            path: self.units.drop_in("50-lifeboat-guard.conf"),
            content: format!(
                "[Unit]\nConditionPathExists=!{}\nConditionPathExists=|{}\nConditionPathExists=|!{}\n",
                self.ledger_paths.lock().display(),
                self.ledger_paths.let_start().display(),
                self.ledger_paths.ledger().display(),
            ),
            mode: 0o644,
            owner: plan.host.site.owner,
        };
        let plan = plan.with_settings(Some(overlay), vec![self.units.drop_in(STALE)]);
        Ledger::new(plan, guard, jiff::Timestamp::UNIX_EPOCH)
    }

    fn ledger_store(&self) -> LedgerStore {
        // A process that another test has just forked holds every lock of this one until it becomes another program.
        let mut ledger_store = None;
        until("nobody else has the ledger", || {
            ledger_store = match LedgerStore::open(self.ledger_paths.clone()) {
                Err(LedgerError::Locked) => None,
                opened => Some(opened.expect("it can be opened")),
            };
            ledger_store.is_some()
        });
        ledger_store.expect("it was opened")
    }

    /// Runs a restore until `listener` ends it.
    fn restore(&self, number: u32, listener: &dyn Fn(Step) -> ControlFlow<()>) -> Result<Outcome, Error> {
        self.begin(number, listener)?.go(Patience::Started)
    }

    fn begin<'a>(&'a self, number: u32, listener: &'a dyn Fn(Step) -> ControlFlow<()>) -> Result<Run<'a>, Error> {
        let mut run = Run::begin(self.ledger_store(), self.ledger(number), self.tools(listener))?;
        if listener(Step::Build).is_break() {
            return Err(Error::Stopped { step: Step::Build });
        }
        run.build(snapshot(), None, DigestRule::Required, &|_| ControlFlow::Continue(()))
            .expect("there is nothing wrong with it");
        Ok(run)
    }

    /// A restore whose settings no etcd comes up with.
    fn begin_in_vain(&self, number: u32) -> Run<'_> {
        let mut ledger = self.ledger(number);
        let overlay = ledger.plan.host.overlay.as_mut().expect("one was planned");
        overlay.advertise_peer_urls = vec!["nonsense".to_owned()];
        let mut run = Run::begin(self.ledger_store(), ledger, self.tools(&go_on)).expect("none is open");
        run.build(snapshot(), None, DigestRule::Required, &|_| ControlFlow::Continue(()))
            .expect("there is nothing wrong with it");
        run
    }

    fn resume(&self) -> Result<Option<Outcome>, Error> {
        let run = Run::resume(self.ledger_store(), self.tools(&go_on))?;
        run.map(|mut run| run.go(Patience::Healthy)).transpose()
    }

    fn roll_back(&self) -> Result<Outcome, Error> {
        Run::roll_back(self.ledger_store(), self.tools(&go_on))?.go(Patience::Healthy)
    }

    fn tools<'a>(&'a self, listener: &'a dyn Fn(Step) -> ControlFlow<()>) -> Tools<'a> {
        Tools {
            units: &self.units,
            access: &self.access,
            runtime: self.runtime.handle(),
            now: || jiff::Timestamp::UNIX_EPOCH,
            listener,
            stop: &|| false,
            tell: &|_| {},
        }
    }

    /// With an etcd that runs and has its log in a directory of its own.
    fn with_separate_log() -> Option<(Bench, PathBuf)> {
        let mut bench = Bench::stopped(1)?;
        let wal_dir = bench.etcd.directory().join("wal");
        fs::create_dir(&wal_dir).expect("the test's directory can be written");
        bench.units.set("ETCD_WAL_DIR", wal_dir.to_str().expect("it is plain"));
        bench.wal_dir = Some(wal_dir.clone());
        bench.units.start(UNIT).expect("it starts");
        bench.wait_until_served();
        bench.client().put(OLD_KEY, "old", 0).expect("it takes writes");
        Some((bench, wal_dir))
    }

    /// Whether the old data is served, or else the restored; fails for anything between.
    #[track_caller]
    fn is_old(&self) -> bool {
        self.wait_until_served();
        let client = self.client();
        let has_old = client.get(OLD_KEY).expect("it serves").is_some();
        match has_old {
            true => assert!(
                client.revision().expect("it serves") < REVISION,
                "nothing was lost of the old data"
            ),
            false => {
                assert_eq!(client.revision().expect("it serves"), REVISION);
                let hash = client.hash_kv(REVISION).expect("it serves");
                let built = self.last().built.expect("it was restored");
                assert_eq!(hash.hash, built.hash_kv.hash);
                assert_eq!(hash.compact_revision, built.hash_kv.compact_revision);
            }
        }
        has_old
    }

    /// On the old data etcd has its own settings, but that it begins no cluster.
    #[track_caller]
    fn assert_existing_is_all_that_is_laid_on(&self, taken_back: &Ledger) {
        let overlay = taken_back.plan.host.overlay.as_ref().expect("it lays one on");
        assert!(overlay.drop_in.exists());
        let laid = fs::read_to_string(&overlay.environment_file).expect("it is there");
        let laid: Vec<&str> = laid.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(laid, ["ETCD_INITIAL_CLUSTER_STATE=\"existing\""]);
    }

    /// The last restore, open or closed.
    fn last(&self) -> Ledger {
        let ledger_store = self.ledger_store();
        let open = ledger_store.ledger().expect("it can be read");
        let closed = || ledger_store.closed().expect("they can be read").pop();
        open.or_else(closed).expect("there was one")
    }
}

/// One that was never drawn before.
fn nonce() -> Nonce {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    Nonce(nonce)
}

fn snapshot() -> Source {
    let file = File::open(SNAPSHOT).expect("it is a fixture");
    Source::open("snapshot", file, None, None).expect("it is plain")
}

fn go_on(_: Step) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn to_the_end(_: GiveUp) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A drop-in that an earlier version laid over the settings, and what was in it.
const STALE: &str = "zz-50-lifeboat.conf";
const OF_BEFORE: &str = "[Service]\nTimeoutStartSec=infinity\n";

const FORWARD: [Step; 8] = [
    Step::Build,
    Step::Guard,
    Step::Stop,
    Step::Swap,
    Step::Settings,
    Step::Start,
    Step::Serve,
    Step::Settle,
];

#[test]
fn a_restore_swaps_the_data_and_rollback_and_release_end_it() {
    let Some(bench) = Bench::running(1) else { return };
    fs::write(bench.units.drop_in(STALE), OF_BEFORE).expect("the test's directory can be written");
    let steps = RefCell::new(Vec::new());
    let listener = |step| {
        steps.borrow_mut().push(step);
        ControlFlow::Continue(())
    };
    assert_eq!(
        bench.restore(1, &listener).expect("it comes to its end"),
        Outcome::Restored
    );
    steps.borrow_mut().dedup();
    assert_eq!(*steps.borrow(), FORWARD);
    assert!(!bench.is_old());
    let first = bench.last();
    assert_eq!(first.kept, Kept::Here);
    assert!(kept_path(bench.data_dir(), first.id()).join("member/snap/db").is_file());
    assert!(!made_path(bench.data_dir(), first.id()).exists() && !first.guard.path.exists());
    assert!(!bench.ledger_paths.is_open() && !bench.ledger_paths.lock().exists());
    let laid = fs::read_to_string(bench.etcd.directory().join("restore.env")).expect("it is there");
    assert!(
        laid.contains(&format!(
            "ETCD_INITIAL_CLUSTER_TOKEN=\"{}\"",
            first.plan.host.identity.as_ref().expect("it was founded").token
        )),
        "{laid}"
    );
    assert!(
        !bench.units.drop_in(STALE).exists(),
        "an earlier restore's drop-in is taken away"
    );
    bench.client().put("/after", "the restore", 0).expect("it takes writes");

    let back = bench.roll_back().expect("it comes to its end");
    assert!(matches!(back, Outcome::Undone { .. }));
    assert!(bench.is_old());
    bench.assert_existing_is_all_that_is_laid_on(&first);
    assert_eq!(
        fs::read_to_string(bench.units.drop_in(STALE)).expect("it is back"),
        OF_BEFORE
    );
    let aside = made_path(bench.data_dir(), first.id()).join("member/snap/db");
    assert!(aside.is_file(), "what was since is kept aside");
    assert!(matches!(bench.roll_back(), Err(Error::NoRestore)));

    assert_eq!(
        bench.restore(2, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    let second = bench.last();
    assert_eq!(
        bench.restore(3, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    let third = bench.last();
    let kept = |ledger: &Ledger| {
        kept_path(bench.data_dir(), ledger.id())
            .join("member/snap/db")
            .is_file()
    };
    assert!(
        kept(&second) && kept(&third),
        "the one does not overwrite what the other keeps"
    );

    let all = releasable(&bench.ledger_paths).expect("none is open").ledgers;
    assert_eq!(all.len(), 3);
    for ledger in &all {
        release(&bench.ledger_store(), ledger.id(), &bench.units, &to_the_end).expect("it can be removed");
    }
    assert!(!bench.data_dir().join(".lifeboat").exists());
    assert!(matches!(bench.roll_back(), Err(Error::Released { .. })));
    assert!(!bench.is_old());
}

/// What a test of power cuts has recorded: a restore of a stopped etcd up to where it would be started. It is a process of its own,
/// and ends without tidying up.
#[test]
#[ignore = "run by the test of power cuts"]
fn a_restore_is_recorded() {
    let Some(marks) = std::env::var_os(super::crash::MARKS).map(PathBuf::from) else {
        return;
    };
    let bench = Bench::running(1).expect("the test that records has looked");
    bench.units.stop(UNIT).expect("it stops");
    fs::write(marks.join("home.new"), bench.home.as_os_str().as_encoded_bytes()).expect("it is the test's");
    fs::rename(marks.join("home.new"), marks.join("home")).expect("it is the test's");
    until("it is recorded", || marks.join("go").exists());
    let up_to_start = |step| match step {
        Step::Start => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let ended = bench.restore(1, &up_to_start);
    assert!(matches!(ended, Err(Error::Stopped { step: Step::Start })), "{ended:?}");
    std::process::exit(0);
}

/// A run that dies is one that stops at once: nothing of it is tidied up.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// After the ledger was written, before the step.
    BeforeStep,
    /// After the step, before the ledger was written again.
    AfterStep,
}

/// Whether the whole host goes down with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    Stays,
    Goes,
}

#[test]
fn what_was_written_anew_on_the_way_is_served() {
    let Some(bench) = Bench::running(1) else { return };
    let below = fs::metadata(SNAPSHOT).expect("it is a fixture").len() - 32;
    for (number, rewrite) in [
        (1, Rewrite::Defragmented),
        (2, Rewrite::Compacted),
        (3, Rewrite::ToFit { below }),
    ] {
        let mut ledger = bench.ledger(number);
        ledger.plan.host.rewrite = rewrite;
        let mut run = Run::begin(bench.ledger_store(), ledger, bench.tools(&go_on)).expect("none is open");
        let built = run.build(snapshot(), None, DigestRule::Required, &|_| ControlFlow::Continue(()));
        let rewritten = built.expect("there is nothing wrong with it").rewritten;
        let is_compacted = rewritten.map(|rewritten| rewritten.is_compacted);
        assert_eq!(is_compacted, Some(rewrite != Rewrite::Defragmented), "{rewrite:?}");
        let outcome = run.go(Patience::Healthy).expect("it comes to its end");
        assert_eq!(outcome, Outcome::Restored);
        assert_eq!(run.ledger().plan.host.rewrite, rewrite);
        drop(run);
        assert!(!bench.is_old());
        bench.roll_back().expect("the old data is there");
        assert!(bench.is_old());
    }
}

#[test]
fn a_run_that_is_killed_at_any_step_is_taken_up_and_ends_with_the_old_or_the_new() {
    killed_everywhere(Power::Stays);
}

#[test]
fn after_a_power_cut_at_any_step_the_old_or_the_new_is_served() {
    killed_everywhere(Power::Goes);
}

fn killed_everywhere(power: Power) {
    let Some(bench) = Bench::running(1) else { return };
    let mut number = 0;
    for step in FORWARD {
        for death in [Death::BeforeStep, Death::AfterStep] {
            number += 1;
            die(&bench, number, step, death);
            if power == Power::Goes {
                bench.units.kill();
                bench.lose_run();
            }
            bench.units.reload().expect("it can");
            // Somebody cannot wait. After a power cut it is up to the run alone, whoever asks for etcd.
            bench.units.start(UNIT).expect("it can be asked for");
            // Where only the ledger was to be closed yet, nothing guards it any more.
            let is_settled = step == Step::Settle && matches!(death, Death::AfterStep);
            if power == Power::Goes && step > Step::Guard && !is_settled {
                assert!(!bench.units.runs(), "{step:?} {death:?}: it is held");
            }
            let outcome = bench.resume().expect("it comes to its end");
            bench.units.start(UNIT).expect("a boot starts it");
            let at = format!("{step:?} {death:?}: {outcome:?}");
            let is_old = bench.is_old();
            let was_touched = step > Step::Build;
            match outcome {
                Some(Outcome::Restored) => assert!(!is_old && was_touched, "{at}"),
                Some(Outcome::Undone { .. }) => assert!(is_old && !was_touched, "{at}"),
                other => panic!("{at}: {other:?}"),
            }
            assert!(
                !bench.ledger_paths.is_open() && !bench.ledger_paths.lock().exists(),
                "{at}"
            );
            assert_eq!(bench.resume().expect("it can be asked"), None, "{at}");
            if !is_old {
                let back = bench.roll_back().expect("it comes to its end");
                assert!(matches!(back, Outcome::Undone { .. }), "{at}");
                assert!(bench.is_old(), "{at}");
            }
        }
    }
}

#[test]
fn an_etcd_that_a_boot_was_about_to_start_is_started_on_the_old_data() {
    let Some(bench) = Bench::running(1) else { return };
    bench.units.stop(UNIT).expect("it can");
    die(&bench, 1, Step::Settings, Death::BeforeStep);
    bench.units.is_queued.set(true);
    assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
    assert!(bench.is_old());
}

/// Has a restore die at a step.
fn die(bench: &Bench, number: u32, at: Step, death: Death) {
    let ledger = bench.ledger_paths.folder.join("ledger.json");
    let written = RefCell::new(None);
    let listener = |step: Step| {
        if step == at {
            *written.borrow_mut() = fs::read(&ledger).ok();
        }
        let stops = match death {
            Death::BeforeStep => step == at,
            Death::AfterStep => step > at,
        };
        match stops {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    match bench.restore(number, &listener) {
        Err(Error::Stopped { .. }) => {}
        // It died after its very last step.
        Ok(Outcome::Restored) => fs::create_dir_all(bench.ledger_paths.notice.parent().unwrap()).unwrap(),
        other => panic!("it goes on to {at:?}: {other:?}"),
    }
    if let Death::AfterStep = death {
        let written = written.into_inner().expect("it came by");
        fs::write(&ledger, written).expect("the test's directory can be written");
    }
}

#[test]
fn what_a_run_left_that_died_while_it_built_is_no_obstacle() {
    let Some(bench) = Bench::running(1) else { return };
    die(&bench, 1, Step::Guard, Death::BeforeStep);
    let written = fs::read_to_string(bench.ledger_paths.folder.join("ledger.json")).expect("it is open");
    let building = written.replace("\"step\": \"guard\"", "\"step\": \"build\"");
    fs::write(bench.ledger_paths.folder.join("ledger.json"), building).expect("the test's directory can be written");
    let left = made_path(bench.data_dir(), bench.last().id());
    assert!(left.exists());
    assert_eq!(
        bench.restore(2, &go_on).expect("it comes to its end"),
        Outcome::Restored
    );
    assert!(!left.exists() && !bench.is_old());
}

#[test]
fn what_cannot_become_healthy_goes_back_by_itself() {
    let Some(bench) = Bench::running(1) else { return };
    let mut run = bench.begin_in_vain(1);
    let outcome = run.go(Patience::Started).expect("it comes to its end");
    drop(run);
    assert!(
        matches!(&outcome, Outcome::Undone { why, .. } if why.contains("etcd.service failed")),
        "{outcome:?}"
    );
    assert!(bench.is_old());
    assert!(!bench.ledger_paths.lock().exists());
    bench.assert_existing_is_all_that_is_laid_on(&bench.last());
    let id = bench.last().id().clone();
    release(&bench.ledger_store(), &id, &bench.units, &to_the_end).expect("it can be given up");
    assert!(!bench.units.drop_in("50-lifeboat.conf").exists());
}

#[test]
fn an_init_system_that_does_not_answer_takes_nothing_back() {
    let Some(bench) = Bench::running(1) else { return };
    for (number, at) in (1..).zip([Step::Swap, Step::Settings, Step::Start, Step::Serve]) {
        let listener = |step: Step| {
            bench.units.is_mute.set(step == at);
            ControlFlow::Continue(())
        };
        let failed = bench.restore(number, &listener);
        assert!(matches!(failed, Err(Error::Units { .. })), "{failed:?}");
        assert_eq!((bench.last().step, bench.last().reason), (at, None));
        bench.units.is_mute.set(false);
        assert_eq!(bench.resume().expect("it comes to its end"), Some(Outcome::Restored));
        assert!(!bench.is_old());
    }
}

#[test]
fn a_member_that_waits_with_nothing_before_it_is_taken_back_for_another_backup() {
    let Some(bench) = Bench::stopped(3) else { return };
    let waiting = Ok(Outcome::Waiting { there: 0 });
    assert_eq!(bench.restore(1, &go_on).map_err(|error| error.to_string()), waiting);
    let back = bench.roll_back();
    assert!(matches!(back, Ok(Outcome::Undone { .. })), "{back:?}");
    bench.units.start(UNIT).expect("it can be asked for");
    assert!(
        !bench.units.runs(),
        "with its old settings it would begin an empty cluster"
    );
    assert_eq!(bench.restore(2, &go_on).map_err(|error| error.to_string()), waiting);
    assert!(!bench.units.runs(), "it waits for the others");
}

#[test]
fn a_separate_log_is_exchanged_and_comes_back() {
    let Some((bench, _)) = Bench::with_separate_log() else {
        return;
    };
    for number in 1..3 {
        assert_eq!(
            bench.restore(number, &go_on).expect("it comes to its end"),
            Outcome::Restored
        );
        assert!(!bench.is_old());
        assert!(!bench.data_dir().join("member/wal").exists());
        assert!(matches!(bench.roll_back(), Ok(Outcome::Undone { .. })));
        assert!(bench.is_old());
    }
}

#[test]
fn a_disk_that_is_full_while_building_stops_nothing() {
    let Some(mut bench) = Bench::stopped(1) else { return };
    let disk = bench.etcd.directory().join("disk");
    fs::create_dir(&disk).expect("the test's directory can be written");
    let Some(tmpfs) = Tmpfs::mount(&disk, 160) else { return };
    let etcd = Arc::get_mut(&mut bench.etcd).expect("nobody else has it");
    etcd.members[0].data_dir = disk.join("data");
    fs::create_dir(bench.data_dir()).expect("there is room");
    bench.units = FakeUnits::new(&bench.etcd, &bench.etcd.directory().join("units"));
    bench.units.start(UNIT).expect("it starts");
    bench.wait_until_served();
    bench.client().put(OLD_KEY, "old", 0).expect("it takes writes");
    let filler = tmpfs.fill();

    let mut run = Run::begin(bench.ledger_store(), bench.ledger(1), bench.tools(&go_on)).expect("none is open");
    let error = run
        .build(snapshot(), None, DigestRule::Required, &|_| ControlFlow::Continue(()))
        .expect_err("there is no room");
    run.abandon(error.to_string()).expect("there is nothing to it");
    drop(run);
    assert_eq!(*bench.units.calls.borrow(), ["start"], "etcd was never stopped");
    assert!(!bench.ledger_paths.is_open());
    fs::remove_file(filler).expect("it is there");
    assert!(bench.is_old());
    bench.units.kill();
    drop(tmpfs);
}
