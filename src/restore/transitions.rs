//! Which step comes after which, forward and back.
//!
//! Pure. Each step is written to the ledger before it is taken, and can be taken again: whoever finds the ledger takes
//! the step that it names.
//!
//! ```text
//! forward   Build  Guard  Stop  Meet  Found  Agree  Swap  Settings  Start  Serve  Settle  → restored
//! back      BackGuard  BackStop  BackSwap  BackSettings  BackStart  BackSettle             → rolled back, or abandoned
//! ```
//!
//! Meet and Agree are the two steps of the rendezvous: committed to the founders, and heard that all others have. Up to
//! there the old data is in place, and whoever goes back only lets etcd start again.
//!
//! Invariant: etcd may start only while data and settings are of one and the same cluster; between Stop and Start, and
//! between BackStop and BackStart, the guard keeps everybody from starting it.

use serde::{Deserialize, Serialize};

/// A step of a restore. The ledger calls those of the way back by the names that version 0.1 gave them, see docs/formats.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Make and check the new data, beside the old.
    Build,
    /// Keep everybody from starting etcd.
    Guard,
    /// Stop etcd, and see that nothing holds its data.
    Stop,
    /// Hear all other members, and commit to the founders of the new cluster.
    Meet,
    /// Write into the new data who the member is.
    Found,
    /// Hear that all others have committed to the same founders.
    Agree,
    /// The new data goes where etcd looks, the old is kept.
    Swap,
    /// The new settings go where etcd looks.
    Settings,
    /// Let etcd start.
    Start,
    /// See that it serves.
    Serve,
    /// Take away what was only needed meanwhile.
    Settle,
    /// Back: keep everybody from starting etcd.
    #[serde(rename = "hold")]
    BackGuard,
    /// Back: stop etcd.
    #[serde(rename = "halt")]
    BackStop,
    /// Back: the old data goes where etcd looks, the new is set aside.
    #[serde(rename = "return")]
    BackSwap,
    /// Back: the old settings.
    #[serde(rename = "undo")]
    BackSettings,
    /// Back: let etcd start, if it ran before.
    #[serde(rename = "revive")]
    BackStart,
    /// Back: take away what was only needed meanwhile.
    #[serde(rename = "clear")]
    BackSettle,
}

impl Step {
    /// All of them.
    pub const ALL: [Step; 17] = [
        Step::Build,
        Step::Guard,
        Step::Stop,
        Step::Meet,
        Step::Found,
        Step::Agree,
        Step::Swap,
        Step::Settings,
        Step::Start,
        Step::Serve,
        Step::Settle,
        Step::BackGuard,
        Step::BackStop,
        Step::BackSwap,
        Step::BackSettings,
        Step::BackStart,
        Step::BackSettle,
    ];

    /// What is done at it.
    pub fn words(self) -> &'static str {
        match self {
            Step::Build => "making the new data",
            Step::Guard | Step::BackGuard => "keeping etcd from starting",
            Step::Stop | Step::BackStop => "stopping etcd",
            Step::Meet => "waiting for the other members",
            Step::Found => "writing who the members are",
            Step::Agree => "agreeing with the other members",
            Step::Swap => "exchanging the data",
            Step::Settings => "writing the new settings",
            Step::Start => "starting etcd",
            Step::Serve => "waiting for etcd to serve",
            Step::Settle | Step::BackSettle => "tidying up",
            Step::BackSwap => "putting the old data back",
            Step::BackSettings => "putting the old settings back",
            Step::BackStart => "starting etcd on the old data",
        }
    }

    /// Whether the members meet meanwhile.
    pub fn is_of_rendezvous(self) -> bool {
        matches!(self, Step::Meet | Step::Found | Step::Agree)
    }

    /// Whether it leads back.
    pub fn is_back(self) -> bool {
        self >= Step::BackGuard
    }
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// It is done.
    Done,
    /// It cannot be done, or what came of it is wrong.
    Failed,
    /// Nothing is wrong, but others have to come first.
    Waiting,
    /// It cannot be seen how things are, which says nothing against them.
    Unseen,
    /// The operator wants the old state back.
    Unwanted,
}

/// How a restore ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The restored cluster serves.
    Restored,
    /// Everything is as it was before.
    Undone,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Write this step to the ledger, then take it.
    Take(Step),
    /// Leave the ledger open at this step; somebody takes it again later.
    Stay,
    /// Close the ledger.
    Close(End),
}

/// What follows a step.
pub fn next(step: Step, came: Came) -> Next {
    match came {
        Came::Done => done(step),
        Came::Failed => failed(step),
        Came::Waiting | Came::Unseen => Next::Stay,
        // It is on its way.
        Came::Unwanted if step.is_back() => Next::Take(step),
        // Once etcd serves, only `rollback` leads back, and it begins like this.
        Came::Unwanted => unwanted(step),
    }
}

/// The step that follows in its place where nobody has to meet.
pub fn without_rendezvous(step: Step) -> Step {
    match step.is_of_rendezvous() {
        true => Step::Swap,
        false => step,
    }
}

/// Where a run begins that finds the ledger at this step.
///
/// A build is not gone on with: its source may be gone, and nothing was touched yet. And etcd is let start again before
/// it is watched again: after a power cut nobody else may start it, which says nothing against the new data.
pub fn resumed(step: Step) -> Step {
    match step {
        Step::Build => Step::BackSettle,
        Step::Serve => Step::Start,
        other => other,
    }
}

fn done(step: Step) -> Next {
    Next::Take(match step {
        Step::Build => Step::Guard,
        Step::Guard => Step::Stop,
        Step::Stop => Step::Meet,
        Step::Meet => Step::Found,
        Step::Found => Step::Agree,
        Step::Agree => Step::Swap,
        Step::Swap => Step::Settings,
        Step::Settings => Step::Start,
        Step::Start => Step::Serve,
        Step::Serve => Step::Settle,
        Step::Settle => return Next::Close(End::Restored),
        Step::BackGuard => Step::BackStop,
        Step::BackStop => Step::BackSwap,
        Step::BackSwap => Step::BackSettings,
        Step::BackSettings => Step::BackStart,
        Step::BackStart => Step::BackSettle,
        Step::BackSettle => return Next::Close(End::Undone),
    })
}

fn failed(step: Step) -> Next {
    match step {
        Step::Build => Next::Take(Step::BackSettle),
        // Data and settings are as they were; etcd may have been stopped.
        Step::Guard | Step::Stop | Step::Meet | Step::Found | Step::Agree => Next::Take(Step::BackStart),
        Step::Swap | Step::Settings | Step::Start | Step::Serve => Next::Take(Step::BackGuard),
        // The restored cluster serves: what is left over is no reason to take it away. And on the way back there is no
        // other way.
        Step::Settle
        | Step::BackGuard
        | Step::BackStop
        | Step::BackSwap
        | Step::BackSettings
        | Step::BackStart
        | Step::BackSettle => Next::Stay,
    }
}

fn unwanted(step: Step) -> Next {
    match step {
        Step::Settle => Next::Take(Step::BackGuard),
        other => failed(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As much of a host as matters.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct World {
        new_data: bool,
        new_settings: bool,
        guarded: bool,
        runs: bool,
        ran: bool,
        /// Whether all others have committed.
        agreed: bool,
    }

    impl World {
        fn take(&mut self, step: Step) {
            match step {
                Step::Agree => self.agreed = true,
                Step::Guard | Step::BackGuard => self.guarded = true,
                Step::Stop | Step::BackStop => self.runs = false,
                Step::Swap => self.new_data = true,
                Step::Settings => self.new_settings = true,
                Step::BackSwap => self.new_data = false,
                Step::BackSettings => self.new_settings = false,
                Step::Start => {
                    self.guarded = false;
                    self.runs = true;
                }
                Step::BackStart => {
                    self.guarded = false;
                    self.runs |= self.ran;
                }
                Step::Build | Step::Meet | Step::Found | Step::Serve | Step::Settle | Step::BackSettle => {}
            }
        }

        /// A boot, or somebody who starts etcd by hand: nothing happens under the guard.
        fn somebody_starts_it(&mut self) {
            self.runs |= !self.guarded;
        }

        /// Whether no etcd runs on data that its settings are not for, or alone.
        fn is_sound(&self) -> bool {
            !self.runs || self.new_data == self.new_settings && (self.agreed || !self.new_data)
        }
    }

    /// What happens at a step.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Comes(Came),
        /// It fails, or the power goes, after it had its effect.
        FailsAfter,
        DiesBefore,
        DiesAfter,
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            8 => Just(Fate::Comes(Came::Done)),
            2 => Just(Fate::Comes(Came::Failed)),
            1 => Just(Fate::Comes(Came::Unseen)),
            1 => Just(Fate::Comes(Came::Unwanted)),
            1 => Just(Fate::FailsAfter),
            1 => Just(Fate::DiesBefore),
            1 => Just(Fate::DiesAfter),
        ]
    }

    proptest! {
        #[test]
        fn it_ends_with_the_old_or_the_new_and_never_runs_between(
            fates in proptest::collection::vec(fate(), 0..40),
            ran in any::<bool>(),
        ) {
            let before = World { new_data: false, new_settings: false, guarded: false, runs: ran, ran, agreed: false };
            let mut world = before;
            let mut step = Step::Build;
            let mut fates = fates.into_iter();
            let end = loop {
                let fate = fates.next().unwrap_or(Fate::Comes(Came::Done));
                let comes = match fate {
                    Fate::Comes(Came::Done) => { world.take(step); Came::Done }
                    Fate::Comes(other) => other,
                    Fate::FailsAfter => { world.take(step); Came::Failed }
                    Fate::DiesBefore | Fate::DiesAfter => {
                        if matches!(fate, Fate::DiesAfter) {
                            world.take(step);
                        }
                        world.somebody_starts_it();
                        prop_assert!(world.is_sound(), "{step:?}: {world:?}");
                        step = resumed(step);
                        continue;
                    }
                };
                world.somebody_starts_it();
                prop_assert!(world.is_sound(), "{step:?}: {world:?}");
                match next(step, comes) {
                    Next::Take(next) => step = next,
                    Next::Stay => {}
                    Next::Close(end) => break end,
                }
            };
            prop_assert!(!world.guarded, "{world:?}");
            let is_new = end == End::Restored;
            prop_assert_eq!((world.new_data, world.new_settings), (is_new, is_new));
            prop_assert!(world.runs || !(ran || is_new), "{world:?}");
        }
    }

    #[test]
    fn the_ledgers_format_lists_every_step_in_order() {
        let text = include_str!("../../docs/formats.md");
        let rows = text
            .lines()
            .skip_while(|line| !line.starts_with("| `step` | what is done"))
            .skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let listed: Vec<&str> = rows
            .flat_map(|row| row.split('|').nth(1).unwrap().split(','))
            .map(|name| name.trim().trim_matches('`'))
            .collect();
        let steps = Step::ALL.map(|step| serde_json::to_value(step).unwrap());
        let steps: Vec<&str> = steps.iter().map(|step| step.as_str().unwrap()).collect();
        assert_eq!(listed, steps);
    }

    #[test]
    fn what_lost_its_power_while_it_was_watched_is_started_again() {
        let mut world = World {
            new_data: true,
            new_settings: true,
            guarded: false,
            runs: false,
            ran: true,
            agreed: true,
        };
        let step = resumed(Step::Serve);
        world.take(step);
        assert!(world.runs && world.is_sound(), "{world:?}");
        assert_eq!(next(step, Came::Done), Next::Take(Step::Serve));
    }

    #[test]
    fn every_step_has_one_way_on_and_the_way_back_never_turns() {
        for step in Step::ALL {
            for came in [Came::Done, Came::Failed, Came::Waiting, Came::Unseen, Came::Unwanted] {
                match next(step, came) {
                    Next::Take(next) if step.is_back() && came == Came::Unwanted => assert_eq!(next, step),
                    Next::Take(next) => assert!(next > step, "{step:?} {came:?} {next:?}"),
                    Next::Stay => assert_ne!(came, Came::Done, "{step:?}"),
                    Next::Close(End::Restored) => assert_eq!(step, Step::Settle),
                    Next::Close(End::Undone) => assert_eq!(step, Step::BackSettle),
                }
            }
        }
        assert_eq!(
            next(Step::Serve, Came::Waiting),
            Next::Stay,
            "a lack of quorum rolls nothing back"
        );
    }
}
