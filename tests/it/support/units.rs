//! An init system of the tests' own that runs one real etcd, with drop-ins as systemd reads them.
//!
//! It lives on when a restore is killed, as systemd does. What it reads of a drop-in is what a restore writes:
//! `ConditionPathExists=!` and `EnvironmentFile=`.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lifeboat::restore::{Activity, Guarded, Trouble, UnitState, Units};

use super::etcd::{Etcd, Member};

/// The name of the unit.
pub const UNIT: &str = "etcd.service";

/// The unit of one etcd. Dropped, it is killed.
pub struct FakeUnits {
    binary: PathBuf,
    /// `ETCD_*` variables of the unit itself.
    variables: Vec<(String, String)>,
    drop_ins: PathBuf,
    log: PathBuf,
    loaded: RefCell<Vec<(PathBuf, String)>>,
    child: RefCell<Option<Child>>,
    /// Every start and stop, in order.
    pub calls: RefCell<Vec<&'static str>>,
    /// Whether it answers nobody, as one that cannot be reached.
    pub is_mute: Cell<bool>,
    /// Whether it refuses every start, as that of a masked unit.
    pub is_masked: Cell<bool>,
    /// Whether a boot is about to start it, once others have.
    pub is_queued: Cell<bool>,
}

impl FakeUnits {
    /// A unit for the first member of a planned cluster; nothing runs yet.
    pub fn new(etcd: &Etcd, dir: &Path) -> FakeUnits {
        FakeUnits::of(etcd, 0, dir)
    }

    /// A unit for one of its members.
    pub fn of(etcd: &Etcd, index: usize, dir: &Path) -> FakeUnits {
        let drop_ins = dir.join("etcd.service.d");
        fs::create_dir_all(&drop_ins).expect("the test's directory can be written");
        let units = FakeUnits {
            binary: etcd.binary().to_owned(),
            variables: variables(&etcd.members[index], &etcd.initial_cluster()),
            drop_ins,
            log: dir.join("etcd.log"),
            loaded: RefCell::default(),
            child: RefCell::default(),
            calls: RefCell::default(),
            is_mute: Cell::default(),
            is_masked: Cell::default(),
            is_queued: Cell::default(),
        };
        // As at a boot.
        units.load().expect("what is there can be read");
        units
    }

    /// Sets a variable of the unit itself.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Where drop-ins are.
    pub fn drop_in(&self, name: &str) -> PathBuf {
        self.drop_ins.join(name)
    }

    /// What the power does when it goes.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.borrow_mut().take() {
            child.kill().expect("our own child can be killed");
            child.wait().expect("our own child can be waited for");
        }
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        let mut child = self.child.borrow_mut();
        child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("our own child can be waited for").is_none())
    }

    /// What etcd wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn lines(&self, key: &str) -> Vec<String> {
        let loaded = self.loaded.borrow();
        let lines = loaded.iter().flat_map(|(_, text)| text.lines());
        lines
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('=').map(str::to_owned))
            .collect()
    }

    fn answer(&self) -> Result<(), Trouble> {
        match self.is_mute.get() {
            true => Err(Trouble::Momentary("no answer".into())),
            false => Ok(()),
        }
    }

    /// The conditions that are in force: an empty one takes those before it away.
    fn conditions(&self) -> Vec<String> {
        let mut conditions = Vec::new();
        for condition in self.lines("ConditionPathExists") {
            match condition.as_str() {
                "" => conditions.clear(),
                _ => conditions.push(condition),
            }
        }
        conditions
    }

    /// Whether a start does nothing: all conditions must hold, and of those with `|` one.
    fn is_guarded(&self) -> bool {
        let conditions = self.conditions();
        let holds = |condition: &str| match condition.strip_prefix('!') {
            Some(path) => !Path::new(path).exists(),
            None => Path::new(condition).exists(),
        };
        let (triggers, others): (Vec<&String>, Vec<&String>) =
            conditions.iter().partition(|condition| condition.starts_with('|'));
        let is_triggered = triggers.is_empty() || triggers.iter().any(|trigger| holds(&trigger[1..]));
        !is_triggered || !others.iter().all(|condition| holds(condition))
    }

    fn spawn(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut command = Command::new(&self.binary);
        command.env_clear().envs(self.variables.iter().cloned());
        for file in self.lines("EnvironmentFile") {
            let text = fs::read_to_string(file)?;
            for line in text.lines().filter(|line| !line.starts_with('#')) {
                let (name, value) = line.split_once('=').ok_or("not an assignment")?;
                command.env(name, value.trim_matches('"'));
            }
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *self.child.borrow_mut() = Some(command.spawn()?);
        Ok(())
    }

    fn load(&self) -> std::io::Result<()> {
        let mut loaded = Vec::new();
        for entry in fs::read_dir(&self.drop_ins).into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "conf") {
                loaded.push((path.clone(), fs::read_to_string(path)?));
            }
        }
        loaded.sort();
        *self.loaded.borrow_mut() = loaded;
        Ok(())
    }
}

impl Units for FakeUnits {
    fn state(&self, _: &str) -> Result<UnitState, Trouble> {
        self.answer()?;
        let runs = self.runs();
        let activity = match (runs, self.child.borrow().is_some()) {
            (true, _) => Activity::Active,
            (false, true) => Activity::Failed,
            (false, false) if self.is_queued.get() => Activity::Queued,
            (false, false) => Activity::Inactive,
        };
        Ok(UnitState {
            activity,
            restarts: 0,
            words: format!("{activity:?}"),
        })
    }

    fn stop(&self, _: &str) -> Result<(), Trouble> {
        self.answer()?;
        self.calls.borrow_mut().push("stop");
        self.is_queued.set(false);
        if let Some(mut child) = self.child.borrow_mut().take() {
            let pid = child.id().to_string();
            let ended = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
            let ended = ended.and_then(|_| child.wait());
            ended.map_err(|error| Trouble::Momentary(error.into()))?;
        }
        Ok(())
    }

    fn start(&self, _: &str) -> Result<(), Trouble> {
        self.answer()?;
        if self.is_masked.get() {
            return Err(Trouble::Refused("the unit is masked".into()));
        }
        if self.is_guarded() || self.runs() {
            return Ok(());
        }
        self.calls.borrow_mut().push("start");
        self.spawn().map_err(Trouble::Momentary)
    }

    fn reload(&self) -> Result<(), Trouble> {
        self.answer()?;
        self.load().map_err(|error| Trouble::Momentary(error.into()))
    }

    fn has_read(&self, _: &str, drop_in: &Path) -> Result<bool, Trouble> {
        Ok(self.loaded.borrow().iter().any(|(path, _)| path == drop_in))
    }

    fn guarded(&self, _: &str, drop_in: &Path, lock: &Path) -> Result<Guarded, Trouble> {
        self.answer()?;
        let has_read = self.loaded.borrow().iter().any(|(path, _)| path == drop_in);
        let holds = self.conditions().contains(&format!("!{}", lock.display()));
        Ok(match (self.is_masked.get(), holds, has_read) {
            (true, _, _) => Guarded::Unstartable,
            (false, true, _) => Guarded::Yes,
            (false, false, true) => Guarded::Overruled,
            (false, false, false) => Guarded::Unread,
        })
    }

    fn enable(&self, _: &str) -> Result<(), Trouble> {
        Ok(())
    }

    fn disable(&self, _: &str) -> Result<(), Trouble> {
        Ok(())
    }
}

impl Drop for FakeUnits {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            eprintln!("--- the last of etcd's log\n{}", tail.join("\n"));
        }
    }
}

fn variables(member: &Member, initial_cluster: &str) -> Vec<(String, String)> {
    let data_dir = member.data_dir.display().to_string();
    let variables = [
        ("ETCD_NAME", member.name.as_str()),
        ("ETCD_DATA_DIR", &data_dir),
        ("ETCD_LISTEN_CLIENT_URLS", &member.client_url),
        ("ETCD_ADVERTISE_CLIENT_URLS", &member.client_url),
        ("ETCD_LISTEN_PEER_URLS", &member.peer_url),
        ("ETCD_INITIAL_ADVERTISE_PEER_URLS", &member.peer_url),
        ("ETCD_INITIAL_CLUSTER", initial_cluster),
        ("ETCD_INITIAL_CLUSTER_STATE", "new"),
        ("ETCD_INITIAL_CLUSTER_TOKEN", "old"),
    ];
    variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}
