//! The steps of the way back: the old data and its settings return, and etcd starts on them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::exchange_dir::{self, ExchangeDir};
use super::init_system::Guarded;
use super::ledger::Ledger;
use super::member_watch::{Revived, revived};
use super::run::Run;
use super::swap::Direction;
use super::transitions::{Came, End};
use super::{Error, settings_files};
use crate::error_chain::with_causes;
use crate::etcd_settings::{NewFile, Overlay};

impl Run<'_> {
    pub(super) fn back_guard(&mut self) -> Result<Came, Error> {
        match self.keep_down()? {
            // The way back is not to wait until somebody can start it again: then it reads the guard, too.
            Guarded::Yes | Guarded::Unstartable => Ok(Came::Done),
            why => Err(self.not_guarded(why)),
        }
    }

    pub(super) fn back_stop(&mut self) -> Result<Came, Error> {
        self.down()?;
        Ok(Came::Done)
    }

    pub(super) fn back_swap(&mut self) -> Result<Came, Error> {
        if let (Some(before), Some(_)) = (&self.ledger.before.data, &self.ledger.built) {
            // etcd is started on it next, and on half of it might begin an empty cluster.
            look_for_old(&self.ledger)?;
            let site = &self.ledger.plan.host.site;
            if ExchangeDir::again(&site.data_dir)?.live_member()? != before.member {
                self.refuse_mounts()?;
            }
        }
        self.exchange(Direction::Back)
    }

    pub(super) fn back_settings(&mut self) -> Result<Came, Error> {
        let ledger = &self.ledger;
        // etcd that finds the old data gone is not to begin an empty cluster; where there was none, that is for whoever lets
        // it start to say.
        let stays = ledger.plan.host.overlay.as_ref().filter(|_| !ledger.had_nothing());
        let stays = stays.map(Overlay::files_of_old);
        // The drop-in that refers to the others goes first.
        for before in ledger.before.files.iter().rev() {
            let stays = stays.iter().flatten().find(|file| file.path == before.path);
            match stays {
                Some(file) if before.content.is_none() && before.path.exists() => settings_files::lay(file)?,
                Some(_) | None => settings_files::put_back(before)?,
            }
        }
        self.reload()?;
        Ok(Came::Done)
    }

    pub(super) fn back_start(&mut self) -> Result<Came, Error> {
        let unit = &self.ledger.plan.host.site.unit;
        if let Some(earlier) = self.ledger.before.held.clone() {
            let found_nothing = self.found_nothing(&earlier)?;
            // It was held for the same reason as below, and still is; or nobody knows why, and it was not seen whether there
            // is data.
            if found_nothing || self.ledger.before.data.is_none() {
                let why = match found_nothing {
                    true => ", before which there was no data,",
                    false => "",
                };
                self.ledger_store.hold(&earlier)?;
                self.notes.push(format!(
                    "{unit} was kept from starting by restore {earlier}{why} and still is: restore another backup, or let \
                     it start with `lifeboat release --restore {earlier}`"
                ));
                return Ok(Came::Done);
            }
        }
        if self.ledger.had_nothing() {
            // There is no data to start it on: with its old settings it might begin an empty cluster.
            self.notes.push(format!(
                "there was no data before that {unit} could be started on, so it is kept from starting: restore another \
                 backup, or let it start with `lifeboat release`"
            ));
            return Ok(Came::Done);
        }
        if let Err(error) = self.find_old() {
            // As at the start on the new data.
            self.ledger_store.hold(&self.ledger.id().to_string()).ok();
            return Err(error);
        }
        self.ledger_store.let_start(&self.ledger.id().to_string())?;
        if self.ledger.before.ran {
            match self.tools.units.start(unit) {
                // The old data is back all the same, and who is to say so is whoever asked for it.
                Err(refused) if refused.is_refusal() => self.down = Some(with_causes(&refused)),
                started => started.map_err(Error::units("start", unit))?,
            }
        } else if let Some(earlier) = &self.ledger.before.held {
            self.notes.push(format!(
                "{unit} was kept from starting by restore {earlier}, of which nothing is known, and is so no more: the data \
                 from before is there, and `systemctl start {unit}` starts it"
            ));
        }
        Ok(Came::Done)
    }

    /// Sees that the old data is where etcd is started on it. After a power cut it may not be mounted yet, and with its old
    /// settings etcd would begin an empty cluster on the mount point.
    fn find_old(&self) -> Result<(), Error> {
        let site = &self.ledger.plan.host.site;
        let Some(before) = &self.ledger.before.data else {
            // It was never seen, nor was anything exchanged.
            return site.dirs().try_for_each(refuse_unmounted);
        };
        let live = fs::symlink_metadata(site.data_dir.join(exchange_dir::MEMBER)).map(|found| found.ino());
        if live.ok() != before.member {
            let data = ExchangeDir::again(&site.data_dir)?;
            self.refuse_mounts()?;
            if let Some(built) = &self.ledger.built {
                data.find_member(self.ledger.id(), before.member, built.member)?;
            }
        }
        site.wal_dir.as_deref().map_or(Ok(()), refuse_unmounted)
    }

    /// Whether an earlier restore was taken back to where there was nothing to start etcd on.
    fn found_nothing(&self, earlier: &str) -> Result<bool, Error> {
        let closed = self.ledger_store.closed()?;
        Ok(closed.iter().any(|ledger| {
            let is_undone = ledger.end.is_some_and(|(end, _)| end == End::Undone);
            ledger.id().to_string() == earlier && is_undone && ledger.had_nothing()
        }))
    }

    pub(super) fn back_settle(&mut self) -> Result<Came, Error> {
        let site = &self.ledger.plan.host.site;
        if !self.ledger.service.started {
            for path in site.dirs() {
                let Some(exchange) = ExchangeDir::find(path)? else {
                    continue;
                };
                let discarded = match &self.ledger.built {
                    None => exchange.discard_made(self.ledger.id()),
                    Some(built) => exchange.discard_unused(self.ledger.id(), &built.inodes()),
                };
                if let Err(error) = discarded {
                    // Backups are not to wait for that, nor is it lost: it is told as what is kept, and goes with that.
                    self.notes.push(format!(
                        "what was made could not be removed ({}): `lifeboat release` does that when the cause is gone",
                        with_causes(&error)
                    ));
                }
            }
        }
        let ahead = self.ledger.plan.host.overlay.as_ref().map(Overlay::files_ahead);
        if let Some([_, drop_in]) = &ahead {
            self.take_back(drop_in)?;
        }
        if !self.ledger_store.paths().lock().exists() {
            settings_files::remove(&self.ledger.guard.path)?;
        }
        // Always: a run that was killed here may have removed all of it already, and systemd knows it still.
        self.reload()?;
        if let Some([variables, _]) = &ahead {
            // Only now: systemd must not start etcd by what refers to a file that is gone.
            self.take_back(variables)?;
        }
        self.tidy()?;
        self.look_after_revived()?;
        Ok(Came::Done)
    }

    /// Puts back what was in the place of a file that was laid beside the guard, if that is still there because the way back
    /// began before the data was exchanged.
    fn take_back(&self, ahead: &NewFile) -> Result<(), Error> {
        let mut befores = self.ledger.before.files.iter();
        match befores.find(|before| before.path == ahead.path) {
            Some(before) if settings_files::is(ahead)? => Ok(settings_files::put_back(before)?),
            Some(_) | None => Ok(()),
        }
    }

    /// Sees whether etcd comes up on the old data. Whether it does changes nothing about what was put back, and a member of
    /// several may have to wait for the others.
    fn look_after_revived(&mut self) -> Result<(), Error> {
        let ledger = &self.ledger;
        if self.down.is_some()
            || !ledger.touched_etcd()
            || !ledger.before.ran
            || self.ledger_store.paths().lock().exists()
        {
            return Ok(());
        }
        let unit = &ledger.plan.host.site.unit;
        match revived(unit, self.tools.units).map_err(Error::units("look at", unit))? {
            Revived::Up => {}
            Revived::NotYet { words } => self
                .notes
                .push(format!("{unit} is still starting on the old data ({words})")),
            Revived::Down { words } => self.down = Some(words),
        }
        Ok(())
    }
}

/// Refuses a directory without the folder that was made in it. What else is wrong with it, etcd has lived with.
fn refuse_unmounted(path: &Path) -> Result<(), Error> {
    match ExchangeDir::again(path) {
        Err(missing @ exchange_dir::Error::Missing { .. }) => Err(missing.into()),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Sees that the old data is all there, where it can come back from.
pub(super) fn look_for_old(ledger: &Ledger) -> Result<(), exchange_dir::Error> {
    let (Some(before), Some(built)) = (&ledger.before.data, &ledger.built) else {
        return Ok(());
    };
    let (site, id) = (&ledger.plan.host.site, ledger.id());
    if let (Some(path), Some(_)) = (&site.wal_dir, built.log) {
        let exchange = ExchangeDir::again(path)?;
        exchange.find_log(id, &before.log)?;
        exchange.check_log(id, before)?;
    }
    let data = ExchangeDir::again(&site.data_dir)?;
    data.find_member(id, before.member, built.member)?;
    data.check_member(id, before, site.wal_dir.is_none())
}
