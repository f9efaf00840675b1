//! Carries a restore out, step by step: writes each step to the ledger, takes it, and asks `transitions` what comes next.

use std::ops::ControlFlow;

use jiff::Timestamp;
use tokio::runtime::Handle;

use super::exchange_dir;
use super::gathering::{Gathering, Seen};
use super::init_system::{Activity, Units};
use super::ledger::{Kept, Ledger, LedgerStore, LogBefore};
use super::member_watch::{Access, Patience};
use super::rollback_steps::look_for_old;
use super::transitions::{self, Came, End, Next, Step};
use super::{Error, settings_files};
use crate::rebuild::Prepared;

use crate::error_chain::with_causes;

/// Why a restore is given up whose build was not finished.
const BROKEN_OFF: &str = "it was broken off before etcd was stopped";

/// Hears which step is about to be taken, once the ledger says so, and may end the run there.
pub type Listener<'a> = &'a dyn Fn(Step) -> ControlFlow<()>;

/// What a run works with.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The init system.
    pub units: &'a dyn Units,
    /// How members are spoken with.
    pub access: &'a Access,
    /// Where it waits for them.
    pub runtime: &'a Handle,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Who hears of each step.
    pub listener: Listener<'a>,
    /// Whether somebody asked to wait no longer for other members.
    pub stop: &'a dyn Fn() -> bool,
    /// Who hears how the others are, whenever that changes.
    pub tell: &'a dyn Fn(&str),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The restored cluster serves.
    Restored,
    /// The member is up and waits for others; the ledger stays open.
    Waiting {
        /// Other members of the new cluster that answer.
        there: usize,
    },
    /// Everything is as it was before.
    Undone {
        /// Why.
        why: String,
        /// How etcd's unit is, if it does not come up on the old data either.
        down: Option<String>,
    },
}

/// A restore that is being carried out. Dropped at any point, its ledger says how far it came.
#[must_use]
pub struct Run<'a> {
    pub(super) ledger_store: LedgerStore,
    pub(super) ledger: Ledger,
    pub(super) tools: Tools<'a>,
    /// What the operator should know.
    pub(super) notes: Vec<String>,
    pub(super) patience: Patience,
    /// Other members that were there when it was left waiting.
    pub(super) there: usize,
    /// How the unit is that did not come up on the old data.
    pub(super) down: Option<String>,
    /// The data that waits for the members to agree on who they are, where this run has checked it.
    pub(super) prepared: Option<Prepared>,
    /// The rendezvous, while it goes on.
    pub(super) gathering: Option<Gathering>,
    /// How the others were when that was last told.
    pub(super) seen: Vec<Seen>,
    /// Whether it was turned back because another cluster lives.
    pub(super) is_refused: bool,
}

impl<'a> Run<'a> {
    /// Opens a ledger. Nothing but that is done before [`Run::build`]; what a run left that died while it built is removed.
    ///
    /// Fails when one is open already: that restore comes first.
    pub fn begin(ledger_store: LedgerStore, mut ledger: Ledger, tools: Tools<'a>) -> Result<Run<'a>, Error> {
        let ledger_store = match ledger_store.ledger()? {
            None => ledger_store,
            Some(open) if open.touched_nothing() => {
                let mut dead = Run::of(ledger_store, open, tools);
                dead.abandon(BROKEN_OFF)?;
                dead.ledger_store
            }
            Some(open) => {
                let (id, step) = (open.id().clone(), open.step);
                return Err(Error::Open { id, step });
            }
        };
        let unit = &ledger.plan.host.site.unit;
        let state = tools.units.state(unit).map_err(Error::units("look at", unit))?;
        ledger.before.ran = state.is_up();
        ledger.before.log_shown = (state.activity == Activity::Active).then_some(LogBefore::There);
        ledger.before.held = ledger_store.held()?;
        let befores = ledger.plan.files_of_settings().map(settings_files::before);
        ledger.before.files = befores.collect::<Result<_, _>>()?;
        Run::opened(ledger_store, ledger, tools)
    }

    /// Takes up the restore that is open, if one is.
    pub fn resume(ledger_store: LedgerStore, tools: Tools<'a>) -> Result<Option<Run<'a>>, Error> {
        let Some(mut ledger) = ledger_store.ledger()? else {
            return Ok(None);
        };
        let step = transitions::resumed(ledger.step);
        if step.is_back() && !ledger.step.is_back() {
            ledger.reason.get_or_insert_with(|| BROKEN_OFF.to_owned());
        }
        // Whoever died at the start may have come as far as that, unless etcd is held yet.
        let id = ledger.id().to_string();
        ledger.service.may_have_served |= step == Step::Start && ledger_store.held()?.is_none_or(|held| held != id);
        ledger.step = step;
        // A boot takes the notice away.
        ledger_store.write(&ledger)?;
        Ok(Some(Run::of(ledger_store, ledger, tools)))
    }

    /// Takes up the restore that is open, or the last one that ended well, to put back what was before it.
    pub fn roll_back(ledger_store: LedgerStore, tools: Tools<'a>) -> Result<Run<'a>, Error> {
        let mut ledger = match ledger_store.ledger()? {
            Some(open) => open,
            None => last_good(&ledger_store)?,
        };
        // As long as it is not known to serve, it is no loss to be without it, and another backup can be restored.
        let serves = ledger.step == Step::Settle || ledger.end.is_some();
        if serves && ledger.had_nothing() {
            let id = ledger.id().clone();
            return Err(Error::NothingBefore { id });
        }
        // etcd is not stopped for what would come to nothing.
        match look_for_old(&ledger) {
            Ok(()) => {}
            // It is open already, and of what is not mounted nothing is known.
            Err(exchange_dir::Error::Missing { .. } | exchange_dir::Error::Foreign { .. }) if ledger.end.is_none() => {}
            Err(_) if ledger.step.is_back() => {}
            Err(source) => {
                let id = ledger.id().clone();
                return Err(Error::NotKept { id, source });
            }
        }
        if ledger.end.is_some() {
            ledger.end = None;
            ledger.step = Step::Settle;
            // Whatever etcd did before the restore, whoever asks for the old data wants it served.
            ledger.before.ran = true;
            ledger.before.held = None;
        }
        if let Next::Take(step) = transitions::next(ledger.step, Came::Unwanted)
            && step != ledger.step
        {
            ledger.ask_back(step);
        }
        Run::opened(ledger_store, ledger, tools)
    }

    fn opened(ledger_store: LedgerStore, ledger: Ledger, tools: Tools<'a>) -> Result<Run<'a>, Error> {
        let mut run = Run::of(ledger_store, ledger, tools);
        run.enable_resume();
        run.ledger_store.write(&run.ledger)?;
        Ok(run)
    }

    fn of(ledger_store: LedgerStore, ledger: Ledger, tools: Tools<'a>) -> Run<'a> {
        Run {
            ledger_store,
            ledger,
            tools,
            notes: Vec::new(),
            patience: Patience::Started,
            there: 0,
            down: None,
            prepared: None,
            gathering: None,
            seen: Vec::new(),
            is_refused: false,
        }
    }

    /// What it does and how far it is.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the operator should know, besides the outcome.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether it was turned back because another cluster lives at the members' addresses.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Goes on from the step that the ledger names to an end, or until others have to come first.
    ///
    /// After an error the ledger is open still, and the run can be taken up again.
    pub fn go(&mut self, patience: Patience) -> Result<Outcome, Error> {
        self.patience = patience;
        loop {
            let step = self.ledger.step;
            if (self.tools.listener)(step).is_break() {
                return Err(Error::Stopped { step });
            }
            let taken = self.take(step);
            let came = match &taken {
                Ok(came) => *came,
                Err(error) if error.is_blind(step) => Came::Unseen,
                // The others rely on whoever has told that it has committed, and may serve by now: back on its old data, it
                // would make two clusters of them. What is wrong here is to be mended, or `rollback` is to say so.
                Err(_) if self.is_bound() => Came::Unseen,
                Err(error) if self.ledger.service.may_have_served && error.is_refused_by_systemd() => Came::Unseen,
                Err(error) => {
                    self.ledger.reason.get_or_insert_with(|| with_causes(error));
                    Came::Failed
                }
            };
            match transitions::next(step, came) {
                Next::Take(next) => {
                    let next = match self.ledger.plan.has_to_meet() {
                        true => next,
                        false => transitions::without_rendezvous(next),
                    };
                    if !next.is_of_rendezvous() {
                        self.leave_rendezvous();
                    }
                    self.ledger.step = next;
                    self.ledger.service.started |= next == Step::Start;
                    self.ledger.service.may_have_served |= next == Step::Serve;
                    self.ledger_store.write(&self.ledger)?;
                }
                Next::Stay => {
                    self.leave_rendezvous();
                    let there = self.there;
                    return taken.map(|_| Outcome::Waiting { there });
                }
                Next::Close(end) => return self.close(end),
            }
        }
    }

    fn close(&mut self, end: End) -> Result<Outcome, Error> {
        self.ledger.end = Some((end, (self.tools.now)()));
        self.ledger_store.close(&self.ledger)?;
        self.disable_resume();
        Ok(match end {
            End::Restored => Outcome::Restored,
            End::Undone => Outcome::Undone {
                why: self.ledger.reason.clone().unwrap_or_default(),
                down: self.down.clone(),
            },
        })
    }
}

/// The last restore whose data etcd uses and whose old data is there.
fn last_good(ledger_store: &LedgerStore) -> Result<Ledger, Error> {
    let closed = ledger_store.closed()?;
    let mut good = closed.into_iter().rev().filter(|ledger| {
        let end = ledger.end.map(|(end, _)| end);
        end == Some(End::Restored)
    });
    match good.next() {
        None => Err(Error::NoRestore),
        Some(last) => match last.kept {
            Kept::Here => Ok(last),
            Kept::Releasing => Err(Error::Releasing { id: last.id().clone() }),
            Kept::Released => Err(Error::Released { id: last.id().clone() }),
        },
    }
}
