//! The steps of the rendezvous: the host meets the others, founds its data, and agrees with them that etcd may start.

use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::exchange_dir::{ExchangeDir, ExchangeDirs};
use super::forward_steps::wish_of_made;
use super::gathering::Gathering;
use super::member_watch::Patience;
use super::rendezvous::Next;
use super::run::Run;
use super::transitions::Came;
use crate::datadir::wal;
use crate::rebuild;

/// How often it is seen what has been heard.
const EVERY: Duration = Duration::from_millis(20);
/// How long the others are waited for before it is left to the background.
const AT_FIRST: Duration = Duration::from_secs(5);
/// The same while all of them are there, and only need a moment.
const WHILE_ALL_ARE_THERE: Duration = Duration::from_secs(60);
/// How long the last word of this host is kept up for others that may not have heard it.
const LINGER: Duration = Duration::from_secs(3);
/// For how long an etcd of another cluster may answer at a member's address before this host turns back.
const LIVES: Duration = Duration::from_secs(60);
/// For how long this member's peer address may be taken, or not be there yet.
const PORT: Duration = Duration::from_secs(180);
const PORT_EVERY: Duration = Duration::from_millis(500);

impl Run<'_> {
    /// Hears all others, and commits to the founders.
    pub(super) fn meet(&mut self) -> Result<Came, Error> {
        if self.is_committed() {
            return Ok(Came::Done);
        }
        // Before the address, which may not be there yet either: of a directory that is not mounted nothing is known.
        ExchangeDirs::open(&self.ledger.plan.host.site, ExchangeDir::again)?;
        self.enter_rendezvous()?;
        // So that it need not be done once the others are there.
        self.check_again()?;
        let began = Instant::now();
        loop {
            let gathering = self.gathering.as_ref().expect("it was entered");
            match gathering.next() {
                Next::Commit(founders) => {
                    self.ledger.plan.commit(founders.clone()).map_err(Error::Founders)?;
                    self.ledger_store.write(&self.ledger)?;
                    let cluster = self.ledger.plan.cluster_id().expect("it has committed");
                    let gathering = self.gathering.as_ref().expect("it was entered");
                    gathering.commit(founders, cluster);
                    return Ok(Came::Done);
                }
                Next::Start => return Ok(Came::Done),
                Next::Wait => {}
            }
            if let Some(words) = gathering.lives(LIVES) {
                self.is_refused = true;
                return Err(Error::Lives { words });
            }
            if self.is_over(began) {
                return Ok(self.leave_waiting());
            }
            self.look();
        }
    }

    /// Writes into the new data who this member is.
    pub(super) fn found(&mut self) -> Result<Came, Error> {
        self.enter_rendezvous()?;
        let plan = &self.ledger.plan;
        let membership = plan.membership().map_err(Error::Founders)?;
        let (membership, own) = membership.expect("it has committed");
        let dirs = ExchangeDirs::open(&plan.host.site, ExchangeDir::again)?;
        let homes = dirs.homes(plan);
        let is_founded = rebuild::is_founded_in(homes, &membership).map_err(Error::Found)?;
        let prepared = match (is_founded, self.prepared.take()) {
            (true, _) => None,
            (false, Some(prepared)) => Some(prepared),
            (false, None) => {
                let wish = wish_of_made(plan, self.ledger.built.as_ref());
                Some(rebuild::prepared_in(homes, &plan.cluster.backup.name, &wish).map_err(Error::Found)?)
            }
        };
        rebuild::found_in(homes, prepared, &membership, &own).map_err(Error::Found)?;
        let log = match &dirs.log {
            Some(log) => log.made_log(&plan.host.id, wal::FILE_NAME)?,
            None => None,
        };
        if let Some(built) = &mut self.ledger.built {
            built.log = log;
        }
        Ok(Came::Done)
    }

    /// Hears that all others have committed to the same founders.
    pub(super) fn agree(&mut self) -> Result<Came, Error> {
        self.enter_rendezvous()?;
        let began = Instant::now();
        while self.gathering.as_ref().expect("it was entered").next() != Next::Start {
            if self.is_over(began) {
                return Ok(self.leave_waiting());
            }
            self.look();
        }
        let ready = Instant::now();
        while ready.elapsed() < LINGER && !self.gathering.as_ref().expect("it was entered").is_known_to_all() {
            thread::sleep(EVERY);
        }
        Ok(Came::Done)
    }

    /// Ends asking and answering, if it goes on: etcd gets its address back.
    pub(super) fn leave_rendezvous(&mut self) {
        if self.gathering.take().is_some() {
            self.ledger_store.tell_seen(&[]);
        }
    }

    /// Whether others rely on what this host has told them, and etcd has not been started on it.
    pub(super) fn is_bound(&self) -> bool {
        self.ledger.plan.has_to_meet() && self.is_committed() && !self.ledger.service.started
    }

    fn is_committed(&self) -> bool {
        let stand = self.ledger.plan.host.stand.as_ref();
        stand.is_some_and(|stand| stand.founders.is_some())
    }

    /// Begins to ask and to answer, if that has not begun.
    fn enter_rendezvous(&mut self) -> Result<(), Error> {
        if self.gathering.is_some() {
            return Ok(());
        }
        let tools = &self.tools;
        let begun = Gathering::begin(&self.ledger.plan, tools.access, tools.runtime, tools.now);
        let mut gathering = begun.map_err(Error::Ask)?;
        let until = Instant::now() + PORT;
        // What etcd has just left, or a network that comes up at boot, may take a moment.
        while let Err(error) = gathering.listen() {
            if Instant::now() >= until || (tools.stop)() {
                return Err(error.into());
            }
            thread::sleep(PORT_EVERY);
        }
        self.gathering = Some(gathering);
        Ok(())
    }

    /// Has the data checked once more where another run has made it.
    fn check_again(&mut self) -> Result<(), Error> {
        if self.prepared.is_some() {
            return Ok(());
        }
        let plan = &self.ledger.plan;
        let dirs = ExchangeDirs::open(&plan.host.site, ExchangeDir::again)?;
        let wish = wish_of_made(plan, self.ledger.built.as_ref());
        self.prepared =
            Some(rebuild::prepared_in(dirs.homes(plan), &plan.cluster.backup.name, &wish).map_err(Error::Found)?);
        Ok(())
    }

    /// Whether nobody waits here any longer.
    fn is_over(&self, began: Instant) -> bool {
        let gathering = self.gathering.as_ref().expect("it was entered");
        let bound = match gathering.result().0 == self.ledger.plan.peers().count() {
            true => WHILE_ALL_ARE_THERE,
            false => AT_FIRST,
        };
        (self.tools.stop)() || self.patience == Patience::Started && began.elapsed() >= bound
    }

    fn leave_waiting(&mut self) -> Came {
        let (there, words) = self.gathering.as_ref().expect("it was entered").result();
        self.there = there;
        self.notes.extend(words);
        Came::Waiting
    }

    /// Lets whoever is interested hear how the others are, and waits a little.
    fn look(&mut self) {
        let seen = self.gathering.as_ref().expect("it was entered").seen();
        if seen != self.seen {
            for one in seen.iter().filter(|one| !self.seen.contains(one)) {
                (self.tools.tell)(&one.words);
            }
            self.ledger_store.tell_seen(&seen);
            self.seen = seen;
        }
        thread::sleep(EVERY);
    }
}
