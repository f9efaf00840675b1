//! What each step does. Every step can be taken again, from wherever a run that died left it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use super::exchange_dir::{self, ExchangeDir, ExchangeDirs};
use super::init_system::Guarded;
use super::ledger::{Built, DataBefore, LogBefore};
use super::member_watch::{Watched, watch};
use super::mounts;
use super::plan::{Plan, Site};
use super::run::Run;
use super::swap::Direction;
use super::transitions::{Came, Step};
use super::{Error, settings_files};
use crate::datadir::wal;
use crate::durable::failed;
use crate::rebuild::{self, ContentProof, DigestRule, Expected, Rebuilt};
use crate::source::{Changes, Source};

/// The unit that takes an open restore up, at boot and in the background.
pub const RESUME_UNIT: &str = "lifeboat-restore-resume.service";

/// How long a process that was told to end may hold the data.
const LET_GO: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Makes and checks the new data beside the old; etcd is not touched. May be tried again with another copy.
    pub fn build(
        &mut self,
        source: Source,
        changes: Option<Changes>,
        rule: DigestRule,
        listener: rebuild::Listener<'_>,
    ) -> Result<Rebuilt, rebuild::Error> {
        let plan = &self.ledger.plan;
        let site = &plan.host.site;
        let dirs = ExchangeDirs::open(site, |path| ExchangeDir::make(path, site.owner)).map_err(into_rebuild)?;
        for exchange in [Some(&dirs.data), dirs.log.as_ref()].into_iter().flatten() {
            exchange.discard_made(&plan.host.id).map_err(into_rebuild)?;
        }
        let homes = dirs.homes(plan);
        let wish = wish(plan, rule);
        let founded = plan.membership().expect("a plan has been made from them");
        let (rebuilt, prepared) = match founded {
            Some((membership, member)) => {
                let wanted = rebuild::Plan {
                    membership,
                    member,
                    data_dir: site.data_dir.clone(),
                    wal_dir: site.wal_dir.clone(),
                    bump: wish.bump,
                    line: wish.line,
                    digest: wish.digest,
                    rewrite: wish.rewrite,
                    expected: wish.expected,
                    history: None,
                    left: None,
                };
                (rebuild::rebuild_in(homes, source, changes, &wanted, listener)?, None)
            }
            None => {
                let (prepared, rebuilt) = rebuild::prepare_in(homes, source, changes, &wish, listener)?;
                (rebuilt, Some(prepared))
            }
        };
        let made = dirs.data.made_member(&plan.host.id).map_err(into_rebuild)?;
        let log = match &dirs.log {
            Some(log) => log.made_log(&plan.host.id, wal::FILE_NAME).map_err(into_rebuild)?,
            None => None,
        };
        self.ledger.built = Some(Built {
            member: made.expect("it was just made"),
            log,
            revision: rebuilt.revision,
            hash_kv: rebuilt.hash_kv,
            is_proven: rebuilt.proof == ContentProof::HashKv,
            live_keys: rebuilt.live_keys,
            auth_enabled: rebuilt.auth.enabled,
            warnings: rebuilt.warnings_of_source(),
        });
        self.prepared = prepared;
        Ok(rebuilt)
    }

    /// Gives up what was not built, and says why.
    pub fn abandon(&mut self, why: impl Into<String>) -> Result<(), Error> {
        self.ledger.reason = Some(why.into());
        self.ledger.built = None;
        self.ledger.step = Step::BackSettle;
        self.ledger_store.write(&self.ledger)?;
        self.go(super::Patience::Started).map(drop)
    }

    pub(super) fn take(&mut self, step: Step) -> Result<Came, Error> {
        match step {
            Step::Build => match self.ledger.built.is_some() {
                true => Ok(Came::Done),
                false => Ok(Came::Failed),
            },
            Step::Guard => self.guard(),
            Step::Stop => self.stop(),
            Step::Meet => self.meet(),
            Step::Found => self.found(),
            Step::Agree => self.agree(),
            Step::Swap => self.swap(),
            Step::Settings => self.put_settings(),
            Step::Start => self.start(),
            Step::Serve => self.serve(),
            Step::Settle => self.settle(),
            Step::BackGuard => self.back_guard(),
            Step::BackStop => self.back_stop(),
            Step::BackSwap => self.back_swap(),
            Step::BackSettings => self.back_settings(),
            Step::BackStart => self.back_start(),
            Step::BackSettle => self.back_settle(),
        }
    }

    fn guard(&mut self) -> Result<Came, Error> {
        self.refuse_mounts()?;
        if let Some(overlay) = &self.ledger.plan.host.overlay {
            let [variables, drop_in] = overlay.files_ahead();
            // What an earlier restore laid on stays until the data is exchanged.
            if settings_files::before(&variables.path)?.content.is_none() {
                settings_files::lay(&variables)?;
            }
            settings_files::lay(&drop_in)?;
        }
        match self.keep_down()? {
            Guarded::Yes => Ok(Came::Done),
            why => Err(self.not_guarded(why)),
        }
    }

    /// Keeps everybody from starting etcd, and tells whether that is in force.
    pub(super) fn keep_down(&mut self) -> Result<Guarded, Error> {
        // The lock first: with the drop-in alone nothing would be held.
        self.ledger_store.hold(&self.ledger.id().to_string())?;
        settings_files::put(&self.ledger.guard)?;
        self.reload()?;
        self.guarded()
    }

    /// Whether the guard is in force.
    fn guarded(&self) -> Result<Guarded, Error> {
        let (unit, path) = (&self.ledger.plan.host.site.unit, &self.ledger.guard.path);
        let guarded = self.tools.units.guarded(unit, path, &self.ledger_store.paths().lock());
        guarded.map_err(Error::units("look at", unit))
    }

    pub(super) fn not_guarded(&self, why: Guarded) -> Error {
        let (unit, path) = (self.ledger.plan.host.site.unit.clone(), self.ledger.guard.path.clone());
        Error::NotGuarded { unit, path, why }
    }

    pub(super) fn refuse_mounts(&self) -> Result<(), Error> {
        mounts::refuse(&self.ledger.plan.host.site, Error::Look, |path| Error::Mounted { path })
    }

    fn stop(&mut self) -> Result<Came, Error> {
        // Again: what is begun may be taken up after a boot.
        self.refuse_mounts()?;
        if self.ledger.before.ran {
            self.ledger.service.downtime.from.get_or_insert_with(self.tools.now);
        }
        self.down()?;
        let site = &self.ledger.plan.host.site;
        let id = &self.ledger.plan.host.id;
        let (log, log_files) = match &site.wal_dir {
            Some(path) => {
                let exchange = ExchangeDir::again(path)?;
                let entries = exchange.live_entries()?;
                let files = exchange.log_files(id, &entries)?;
                (entries, files)
            }
            None => (Vec::new(), None),
        };
        let data = ExchangeDir::again(&site.data_dir)?;
        let member = data.live_member()?;
        let member_files = match member {
            Some(member) => data.member_files(id, member)?,
            None => None,
        };
        let has_log = match self.ledger.before.log_shown {
            Some(shown) => shown,
            None => log_before(site)?,
        };
        self.ledger.before.data = Some(DataBefore {
            member,
            log,
            has_log,
            member_files,
            log_files,
        });
        Ok(Came::Done)
    }

    /// Stops the unit, and waits until nothing holds the data.
    pub(super) fn down(&mut self) -> Result<(), Error> {
        let site = &self.ledger.plan.host.site;
        let before = self.tools.units.state(&site.unit);
        // A boot, or somebody, starts it since we began, and what follows takes that start away.
        if before.map_err(Error::units("look at", &site.unit))?.is_up() && !self.ledger.service.started {
            self.ledger.before.ran = true;
        }
        self.tools
            .units
            .stop(&site.unit)
            .map_err(Error::units("stop", &site.unit))?;
        let until = Instant::now() + LET_GO;
        loop {
            let state = self.tools.units.state(&site.unit);
            let is_up = state.map_err(Error::units("look at", &site.unit))?.is_up();
            if !is_up && !rebuild::is_held(&site.data_dir).map_err(Error::Look)? {
                return Ok(());
            }
            if Instant::now() >= until {
                let (unit, data_dir) = (site.unit.clone(), site.data_dir.clone());
                return Err(Error::Held { unit, data_dir });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn swap(&mut self) -> Result<Came, Error> {
        self.refuse_mounts()?;
        self.exchange(Direction::In)
    }

    /// Has old and new data change places, if there are both.
    pub(super) fn exchange(&mut self, direction: Direction) -> Result<Came, Error> {
        let (site, id) = (&self.ledger.plan.host.site, self.ledger.id());
        let (Some(before), Some(built)) = (&self.ledger.before.data, &self.ledger.built) else {
            // On the way back from before anything was exchanged.
            return Ok(Came::Done);
        };
        // It may have been let start meanwhile, by a drop-in that came later than the guard was looked at.
        match self.guarded()? {
            Guarded::Yes | Guarded::Unstartable => {}
            why => return Err(self.not_guarded(why)),
        }
        if rebuild::is_held(&site.data_dir).map_err(Error::Look)? {
            let (unit, data_dir) = (site.unit.clone(), site.data_dir.clone());
            return Err(Error::Held { unit, data_dir });
        }
        if let (Some(path), Some(new)) = (&site.wal_dir, built.log) {
            ExchangeDir::again(path)?.swap_log(id, &before.log, new, direction)?;
        }
        let data = ExchangeDir::again(&site.data_dir)?;
        data.swap_member(id, before.member, built.member, direction)?;
        Ok(Came::Done)
    }

    fn put_settings(&mut self) -> Result<Came, Error> {
        let plan = &self.ledger.plan;
        if plan.host.files.is_empty() && plan.host.stale.is_empty() && plan.host.overlay.is_none() {
            return Ok(Came::Done);
        }
        plan.host.files.iter().try_for_each(settings_files::put)?;
        plan.host
            .stale
            .iter()
            .try_for_each(|path| settings_files::remove(path))?;
        let mut is_read = plan.host.files.is_empty() && plan.host.stale.is_empty();
        if let Some(overlay) = &plan.host.overlay {
            let identity = plan
                .host
                .identity
                .as_ref()
                .expect("it was founded before the data was exchanged");
            overlay
                .files(&identity.token)
                .iter()
                .try_for_each(settings_files::lay)?;
            // It was read along with the guard, unless an earlier version has begun this restore. What it refers to is read
            // at each start.
            let unit = &plan.host.site.unit;
            let has_read = self.tools.units.has_read(unit, &overlay.drop_in);
            is_read &= has_read.map_err(Error::units("look at", unit))?;
        }
        if !is_read {
            self.reload()?;
        }
        Ok(Came::Done)
    }

    fn start(&mut self) -> Result<Came, Error> {
        if let Err(error) = self.find_new() {
            // It may have been let start before, as it is at a boot, and would do so without its data or its log. What is to
            // be mended is what was not found, also where this fails.
            self.ledger_store.hold(&self.ledger.id().to_string()).ok();
            return Err(error);
        }
        self.ledger_store.let_start(&self.ledger.id().to_string())?;
        let unit = &self.ledger.plan.host.site.unit;
        self.tools.units.start(unit).map_err(Error::units("start", unit))?;
        Ok(Came::Done)
    }

    /// Sees that what etcd is started on is there. After a power cut it may not be mounted yet, and on a mount point an
    /// earlier start may have left an empty `member` or a log.
    fn find_new(&self) -> Result<(), Error> {
        self.refuse_mounts()?;
        let (site, built) = (&self.ledger.plan.host.site, self.ledger.built.as_ref());
        let is_live = |path: PathBuf, inode: Option<u64>| {
            let live = fs::symlink_metadata(path).map(|found| found.ino());
            live.is_ok_and(|live| Some(live) == inode)
        };
        if !is_live(
            site.data_dir.join(exchange_dir::MEMBER),
            built.map(|built| built.member),
        ) {
            ExchangeDir::again(&site.data_dir)?;
        }
        // etcd removes the first file of a log in its time.
        if let Some(path) = &site.wal_dir
            && !is_live(path.join(wal::FILE_NAME), built.and_then(|built| built.log))
        {
            ExchangeDir::again(path)?;
        }
        Ok(())
    }

    fn serve(&mut self) -> Result<Came, Error> {
        let plan = &self.ledger.plan;
        let Some(built) = &self.ledger.built else {
            return Ok(Came::Failed);
        };
        let tools = &self.tools;
        let watched = watch(
            plan,
            built.revision,
            tools.units,
            tools.access,
            tools.runtime,
            self.patience,
            tools.stop,
        );
        match watched.map_err(Error::units("look at", &plan.host.site.unit))? {
            Watched::Healthy { doubt } => {
                self.notes.extend(doubt);
                if self.ledger.service.downtime.from.is_some() {
                    self.ledger.service.downtime.until.get_or_insert_with(tools.now);
                }
                Ok(Came::Done)
            }
            Watched::Waiting { there, strangers } => {
                self.there = there;
                self.notes.extend(strangers);
                Ok(Came::Waiting)
            }
            Watched::Stopped => Ok(Came::Waiting),
            Watched::Broken(why) => {
                self.ledger.reason = Some(why);
                Ok(Came::Failed)
            }
        }
    }

    fn settle(&mut self) -> Result<Came, Error> {
        self.ledger.settled.iter().try_for_each(settings_files::put)?;
        settings_files::remove(&self.ledger.guard.path)?;
        self.reload()?;
        self.tidy()?;
        Ok(Came::Done)
    }

    /// Removes our folders, as far as nothing is in them. What cannot be removed is empty and harms nobody.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        for path in self.ledger.plan.host.site.dirs() {
            if let Some(exchange) = ExchangeDir::find(path)? {
                exchange.tidy(self.ledger.id()).ok();
            }
        }
        Ok(())
    }

    pub(super) fn reload(&self) -> Result<(), Error> {
        self.tools.units.reload().map_err(Error::units("reload", "systemd"))
    }

    /// From before a ledger is open until after it is closed a boot has it taken up.
    pub(super) fn enable_resume(&mut self) {
        if let Err(error) = self.tools.units.enable(RESUME_UNIT) {
            self.notes.push(format!(
                "{RESUME_UNIT} is not enabled ({error}): after a power cut, run `lifeboat restore --resume` by hand"
            ));
        }
    }

    pub(super) fn disable_resume(&mut self) {
        if let Err(error) = self.tools.units.disable(RESUME_UNIT) {
            self.notes.push(format!("{RESUME_UNIT} is not disabled: {error}"));
        }
    }
}

/// What a plan wants of the data.
fn wish(plan: &Plan, digest: DigestRule) -> rebuild::Wish {
    rebuild::Wish {
        bump: plan.cluster.bump.get(),
        line: plan.host.site.etcd_line,
        digest,
        rewrite: plan.host.rewrite,
        expected: Some(Expected {
            sha256: plan.cluster.backup.sha256,
            revision: plan.cluster.backup.own_revision(),
            hash_kv: plan.cluster.backup.hash_kv,
        }),
    }
}

/// The same of data that was made and is checked once more: it is to be as it was told then, which is not the backup where
/// changes behind that were applied.
pub(super) fn wish_of_made(plan: &Plan, built: Option<&Built>) -> rebuild::Wish {
    let wish = wish(plan, DigestRule::Skipped);
    let made = built.map(|built| Expected {
        sha256: plan.cluster.backup.sha256,
        revision: built.hash_kv.revision,
        hash_kv: Some(built.hash_kv),
    });
    rebuild::Wish {
        expected: made.or(wish.expected),
        ..wish
    }
}

/// Whether there is a log where the member of a site has it.
fn log_before(site: &Site) -> Result<LogBefore, Error> {
    let folder = match &site.wal_dir {
        Some(path) => path.clone(),
        None => site.data_dir.join(exchange_dir::MEMBER).join("wal"),
    };
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogBefore::Missing),
        listed => listed.map_err(failed("list", &folder))?,
    };
    for entry in entries {
        let name = entry.map_err(failed("list", &folder))?.file_name();
        if name.to_str().is_some_and(wal::is_segment) {
            return Ok(LogBefore::There);
        }
    }
    Ok(LogBefore::Missing)
}

fn into_rebuild(error: exchange_dir::Error) -> rebuild::Error {
    match error {
        exchange_dir::Error::Files(error) => error.into(),
        exchange_dir::Error::Foreign { path, owner } => {
            let said = format!("it is a link of user {owner}, who could have it lead anywhere");
            failed("follow", &path)(io::Error::new(io::ErrorKind::PermissionDenied, said)).into()
        }
        exchange_dir::Error::NotOurs { path }
        | exchange_dir::Error::Missing { path }
        | exchange_dir::Error::Gone { path, .. }
        | exchange_dir::Error::Incomplete { path, .. }
        | exchange_dir::Error::Strange { path, .. } => rebuild::Error::NotEmpty { path: path.into() },
    }
}
