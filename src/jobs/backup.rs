//! One full backup: what is asked for, what there is already, the backup itself, and what follows from it.

use jiff::Timestamp;

use super::backup_by_hand::{encoding, writer};
use super::{Exit, Failure, Listener, accept_lineage, failed, host, last_seen};
use crate::backup::{self, DestinationError, Error, Job, Outcome, Pace, Progress, Written, full};
use crate::catalog::Pinned;
use crate::config::{Config, MemberChoice};
use crate::destinations::{Destination, Destinations};
use crate::error_chain::with_causes;
use crate::etcd::Access;
use crate::etcd::choose_member::{NoChoice, Wanted};
use crate::layout::Origin;
use crate::model::{ByteSize, ChainId};
use crate::state::{BegunChain, Holder, State};
use crate::store::Begun;

/// What a backup is asked to be.
#[derive(Debug, Clone)]
pub struct Request {
    /// Why it is taken.
    pub origin: Origin,
    /// The schedule that asks for it.
    pub schedule: Option<String>,
    /// The slot of that schedule.
    pub slot: Option<Timestamp>,
    /// The member to ask, instead of the configured choice.
    pub member: Option<String>,
    /// How fast etcd is read from, instead of the configured pace.
    pub pace: Option<Pace>,
    /// Whether it is excluded from retention.
    pub pinned: Pinned,
    /// The operator's words.
    pub note: Option<String>,
}

/// What a run that takes a backup has at hand.
pub struct Run<'a> {
    /// Who hears of it.
    pub listener: &'a dyn Listener,
    /// Where it is recorded which chains are begun.
    pub state: &'a State,
    /// Who takes it, for that record.
    pub command: &'static str,
    /// The record of the first chain.
    pub begun: BegunChain,
    /// How far it is.
    pub progress: &'a Progress,
    /// Hears that the backup to be is another one.
    pub renamed: &'a mut dyn FnMut(&ChainId),
}

/// Takes the backup to those of `to`; `destinations` is what all of them hold, and has it afterwards. Ends with the record
/// of the chain, and with the operator's word on a history that a restore has opened.
///
/// A backup whose data is wrong is kept, marked as bad, and the next member is asked for another one. It is the outcome only
/// where none can be.
pub async fn take(
    run: Run<'_>,
    mut job: Job,
    mut to: Vec<Destination>,
    destinations: &mut Destinations,
    interrupted: impl Future<Output = ()>,
) -> Result<Outcome, Error> {
    tokio::pin!(interrupted);
    let mut begun = run.begun;
    let mut wrong = Wrong::default();
    if let Wanted::Any { .. } = job.wanted {
        job.passed_over = suspects(destinations, &mut wrong);
    }
    let mut has_suspects = !job.passed_over.is_empty();
    loop {
        let again: Vec<Destination> = to.iter().filter_map(Destination::again).collect();
        let taken = full(&job, to, &destinations.catalog, run.progress, interrupted.as_mut()).await;
        end(begun, &taken, run.progress);
        let passed_over = match taken {
            Ok(mut outcome) if outcome.manifest.faults.is_empty() => {
                take_in(destinations, &outcome);
                accept_if_restored(run.listener, destinations, &mut outcome);
                return Ok(wrong.made_good_by(outcome));
            }
            Ok(outcome) => {
                take_in(destinations, &outcome);
                Some(wrong.keep(outcome))
            }
            Err(Error::Wrong { member, faults, left }) => Some(wrong.pass_over(member, &faults, left)),
            Err(error @ Error::Interrupted { .. }) => return Err(error),
            // They may have been repaired, and there is nobody else.
            Err(Error::NoMember(NoChoice::NoneAnswered { .. })) if has_suspects => None,
            Err(error) => return wrong.end(Some(error)),
        };
        // Whoever names a member means that one.
        let Wanted::Any { .. } = job.wanted else {
            return wrong.end(None);
        };
        match passed_over {
            Some(member) => job.passed_over.push(member),
            None => {
                has_suspects = false;
                job.passed_over.clear();
                wrong
                    .told
                    .push("no other member can be asked, so those that were passed over are".to_owned());
            }
        }
        job.chain = destinations
            .catalog
            .next_chain(host::now(), getrandom::u32().unwrap_or_default());
        let next = Holder::this(run.command, host::now());
        begun = match run.state.begin_chain(&job.chain, &next) {
            Ok(begun) => begun,
            Err(error) => {
                run.listener.warn(&with_causes(&error));
                return wrong.end(None);
            }
        };
        (run.renamed)(&job.chain);
        to = again;
    }
}

/// The members whose data was wrong a short while ago: they are asked last.
fn suspects(destinations: &Destinations, wrong: &mut Wrong) -> Vec<String> {
    let now = host::now();
    let mut names = Vec::new();
    for backup in destinations.catalog.backups() {
        if !backup::is_lately_wrong(backup.manifest(), now) {
            continue;
        }
        if let Ok((manifest, _)) = destinations.manifest(backup)
            && !names.contains(&manifest.member.name)
        {
            wrong.told.push(format!(
                "member {} is passed over: its data was wrong in {}: {}",
                manifest.member.name,
                backup.id(),
                manifest.faults.join("; ")
            ));
            names.push(manifest.member.name);
        }
    }
    names
}

/// What came of members whose data is wrong.
#[derive(Default)]
struct Wrong {
    /// The last backup that is kept, marked as bad.
    kept: Option<Outcome>,
    /// The last member, and what is wrong.
    last: Option<(String, Vec<String>)>,
    told: Vec<String>,
}

impl Wrong {
    /// Takes in a backup that is kept; returns its member.
    fn keep(&mut self, outcome: Outcome) -> String {
        let (member, faults) = (outcome.member.clone(), outcome.manifest.faults.clone());
        let id = &outcome.manifest.chain;
        self.told
            .push(format!("{}; {id} is kept, marked as bad", wrong_data(&member, &faults)));
        self.last = Some((member.clone(), faults));
        let unopened = self.kept.take().into_iter().flat_map(never_written);
        self.kept = Some(Outcome {
            destinations: outcome.destinations.into_iter().chain(unopened).collect(),
            ..outcome
        });
        member
    }

    /// Takes in a member whose backup is not kept; returns it.
    fn pass_over(&mut self, member: String, faults: &[String], left: Vec<String>) -> String {
        self.told.push(format!(
            "{}; a backup of this kind is kept already",
            wrong_data(&member, faults)
        ));
        self.told.extend(left);
        self.last = Some((member.clone(), faults.to_vec()));
        member
    }

    /// Another member gave a good one.
    fn made_good_by(self, mut outcome: Outcome) -> Outcome {
        outcome.warnings.splice(0..0, self.told);
        let unopened = self.kept.into_iter().flat_map(never_written);
        outcome.destinations.extend(unopened);
        outcome
    }

    /// No member gives a good one: `error` says why no other could be asked.
    fn end(self, error: Option<Error>) -> Result<Outcome, Error> {
        let others = match &error {
            // All of them were.
            Some(Error::NoMember(NoChoice::NoneAnswered { reasons })) if reasons.is_empty() => None,
            Some(error) => Some(format!("no other member gives a good one: {}", with_causes(error))),
            None => None,
        };
        match (self.kept, self.last, error) {
            (Some(mut outcome), ..) => {
                outcome.warnings.splice(0..0, self.told.into_iter().chain(others));
                Ok(outcome)
            }
            (None, Some((member, faults)), _) => {
                let left = others.into_iter().collect();
                Err(Error::Wrong { member, faults, left })
            }
            (None, None, Some(error)) => Err(error),
            (None, None, None) => unreachable!("it ends after an error, or after a member whose data is wrong"),
        }
    }
}

/// The destinations that could not be written to, whichever member is asked.
fn never_written(outcome: Outcome) -> impl Iterator<Item = Written> {
    let written = outcome.destinations.into_iter();
    written.filter(|written| matches!(written.result, Err(DestinationError::Store(_))))
}

fn wrong_data(member: &str, faults: &[String]) -> String {
    format!("the data of member {member} is wrong: {}", faults.join("; "))
}

/// The whole job of a backup that was asked for.
pub fn job(config: &Config, request: Request, chain: ChainId, access: Access) -> Result<Job, Failure> {
    let host = host::host_name();
    let run = getrandom::u32().map_err(failed)?;
    Ok(Job {
        chain,
        cluster: config.cluster.name.clone(),
        members: host::endpoints(config),
        wanted: wanted(config, request.member.as_deref())?,
        passed_over: Vec::new(),
        access,
        hash_kv: config.backup.hash_kv,
        idle_timeout: config.backup.idle_timeout,
        finish_within: config.backup.finish_within,
        pace: request.pace.unwrap_or(config.backup.pace),
        encoding: encoding(config),
        origin: request.origin,
        schedule: request.schedule,
        slot: request.slot,
        note: request.note,
        pinned: request.pinned,
        writer: writer(run),
        host,
        now: host::now,
    })
}

/// Which member may be asked.
pub fn wanted(config: &Config, asked_for: Option<&str>) -> Result<Wanted, Failure> {
    let here = || host::this_host().map(|host| config.local_member(&host));
    let local = || {
        let local = here()?;
        match local.name() {
            Some(name) => Ok(Wanted::Named(name.to_string())),
            None => {
                Err(Failure::new(Exit::Failed, &local).next("set `[host] member`, or name a member with `--member`"))
            }
        }
    };
    match (asked_for, &config.backup.member) {
        (Some(name), _) if config.members.contains_key(name) => Ok(Wanted::Named(name.to_owned())),
        (Some("local"), _) | (None, MemberChoice::Local) => local(),
        // Refused with the names there are when a member is chosen.
        (Some(name), _) => Ok(Wanted::Named(name.to_owned())),
        (None, MemberChoice::Named(name)) => Ok(Wanted::Named(name.to_string())),
        (None, MemberChoice::Auto) => Ok(Wanted::Any {
            // Where that cannot be found out, no member is nearer than others.
            near: here().ok().and_then(|local| local.name().map(ToString::to_string)),
        }),
    }
}

/// Reads what was opened, which is all there is, and removes what runs of this host that died have left there, and what
/// nobody has answered for in a day. `look` is called every so often meanwhile, as long as one of them gets on.
pub fn read_and_sweep(
    listener: &dyn Listener,
    config: &Config,
    state: &State,
    opened: &[Destination],
    look: &(dyn Fn() + Sync),
) -> Destinations {
    let begun = state.begun();
    if let Err(error) = &begun {
        let why = with_causes(error);
        listener.warn(&format!("leftovers of earlier runs were not removed: {why}"));
    }
    let begun = begun.ok().map(|begun| Begun {
        host: host::host_name().to_string(),
        ..begun
    });
    let mut read = Destinations::read_while(config.cluster.name.clone(), opened, begun.as_ref(), look);
    last_seen::hold_against(&mut read, state);
    last_seen::note(listener, state, &read);
    for (name, swept) in &read.swept {
        match swept {
            Ok(swept) => {
                for left in &swept.swept {
                    let size = ByteSize(left.bytes);
                    listener.detail(&format!("{name}: removed {} ({size})", left.path));
                }
            }
            Err(error) => {
                let why = with_causes(error);
                listener.warn(&format!("{name}: leftovers were not removed: {why}"));
            }
        }
    }
    // A run that is dead is forgotten once nothing of it is anywhere.
    let dead = begun.iter().flat_map(|begun| &begun.dead);
    for dead in dead.filter(|dead| read.are_rid_of(dead)) {
        if let Err(error) = state.forget_chain(dead) {
            listener.warn(&with_causes(&error));
        }
    }
    read
}

/// Takes the backup in where it was written.
pub(super) fn take_in(destinations: &mut Destinations, outcome: &Outcome) {
    let written = outcome.destinations.iter().filter(|written| written.result.is_ok());
    let names = written.map(|written| written.destination.as_str());
    destinations.take_in(&outcome.manifest, &outcome.document, names);
}

/// Accepts the history of the backup where a restore has opened it, or a rollback has put it back; says what keeps it from that.
fn accept_if_restored(listener: &dyn Listener, destinations: &Destinations, outcome: &mut Outcome) {
    let opened = match outcome.unaccepted {
        Some(_) => accept_lineage::by_restore(destinations, &outcome.manifest),
        None => None,
    };
    match opened.or_else(|| accept_lineage::by_rollback(destinations, &outcome.manifest)) {
        None => {}
        Some(Ok(done)) => {
            outcome.unaccepted = None;
            listener.detail(&done);
        }
        Some(Err(why)) => outcome.warnings.push(format!(
            "the history that goes on after a restore or a rollback is not accepted yet ({why}): the next backup tries again"
        )),
    }
}

/// Forgets the chain when nothing of it is left to sweep: it is a backup everywhere, was begun nowhere, or was taken
/// back.
pub(super) fn end(begun: BegunChain, taken: &Result<Outcome, Error>, progress: &Progress) {
    let leaves_nothing = match taken {
        Ok(outcome) => outcome.destinations.iter().all(|written| written.result.is_ok()),
        Err(Error::Interrupted { left }) if left.is_empty() => true,
        Err(_) => !progress.has_written(),
    };
    if leaves_nothing {
        // Should it fail, the next run finds nothing to sweep and forgets it then.
        drop(begun.finish());
    }
}

/// What a command fails with that has no backup.
pub fn failure(error: Error) -> Failure {
    let text = with_causes(&error);
    match &error {
        Error::NoMember(NoChoice::Unknown { .. }) => Failure::new(Exit::Usage, text),
        Error::NoMember(NoChoice::SeveralClusters { .. }) => Failure::new(Exit::Refused, text)
            .next("correct [members], or name the one that is meant with `--member NAME`"),
        Error::NoMember(NoChoice::NoneAnswered { .. }) => Failure::new(Exit::Failed, text)
            .next("`lifeboat check --online` tries every member; [members], [cluster.tls] and [cluster.auth] say where and how"),
        Error::Etcd(crate::etcd::Error::Denied { .. }) => {
            Failure::new(Exit::Failed, text).next("a snapshot needs a user with the role root in [cluster.auth]")
        }
        Error::Etcd(_) | Error::Slow { .. } => {
            Failure::new(Exit::Failed, text).next("nothing was kept; try again, or another member with `--member NAME`")
        }
        Error::Content { .. } => Failure::new(Exit::Damaged, text)
            .next("nothing was kept; try another member with `--member NAME` and look at this one's disk and log"),
        Error::Wrong { .. } => Failure::new(Exit::Damaged, text)
            .next("look at this member's disk and log, and compare the members: `etcdctl endpoint hashkv --cluster`"),
        Error::OtherThanMade { .. } => Failure::new(Exit::Failed, text)
            .next("nothing was kept; run it again, on another host if that does not help"),
        Error::NoneSound { .. } => Failure::new(Exit::Damaged, text)
            .next("nothing was kept; look at the disks and logs of these members: `lifeboat check --online` tries every one"),
        Error::NoDestination(_) => {
            Failure::new(Exit::Failed, text).next("when the cause is gone: `lifeboat check --online` tries every destination")
        }
        Error::Encode(_) | Error::Interrupted { .. } => Failure::new(Exit::Failed, text),
    }
}
