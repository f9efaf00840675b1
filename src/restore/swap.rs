//! Which move comes next when old and new data change places, whatever a killed run left of it.
//!
//! Pure. There are three places: where etcd looks (`live`), where the new data is made (`made`), and where the old is
//! kept (`kept`). A move takes one call of the kernel.
//!
//! Invariant: no move loses anything, and each can be found out from what is in the three places, so that a run that
//! died at any point is taken up again. Where the kernel can exchange two names, `live` is never empty in between.

/// What is in one of the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Nothing.
    Nothing,
    /// What etcd had before the restore.
    Old,
    /// What the restore made.
    New,
    /// Something that is neither.
    Strange,
}

/// Whether there was anything before the restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Old data, which is in one of the places.
    Data,
    /// Nothing.
    Nothing,
}

/// What is where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Where etcd looks.
    pub live: Holds,
    /// Where the new data is made.
    pub made: Holds,
    /// Where the old data is kept.
    pub kept: Holds,
}

/// Whether the new data goes in or the old comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The new goes in.
    In,
    /// The old comes back.
    Back,
}

/// Whether two names can be exchanged in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// They can.
    Exchanges,
    /// They cannot: one after the other is moved.
    OnlyMoves,
}

/// One call of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// `live` and `made` change places.
    ExchangeLiveMade,
    /// `live` and `kept` change places.
    ExchangeLiveKept,
    /// What is live is kept.
    LiveToKept,
    /// What is live goes where it was made.
    LiveToMade,
    /// What was made goes live.
    MadeToLive,
    /// What is kept goes live.
    KeptToLive,
    /// What lies where the new was made is kept.
    MadeToKept,
    /// What lies where the old is kept goes where the new was made.
    KeptToMade,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This.
    Make(Move),
    /// Nothing: it is done.
    Done,
    /// Nothing: what is there cannot have come from this restore.
    Lost,
    /// Nothing: the old data is in none of the places.
    Gone,
}

/// The next move in a direction.
pub fn next(places: Places, before: Before, direction: Direction, kernel: Kernel) -> Next {
    match direction {
        Direction::In => next_in(places, kernel),
        Direction::Back if before == Before::Data && !places.have_old() => Next::Gone,
        Direction::Back => next_back(places, kernel),
    }
}

impl Places {
    fn have_old(self) -> bool {
        [self.live, self.made, self.kept].contains(&Holds::Old)
    }
}

fn next_in(Places { live, made, kept }: Places, kernel: Kernel) -> Next {
    use Holds::{New, Nothing, Old};
    match (live, made, kept) {
        (New, Nothing, Old | Nothing) => Next::Done,
        (New, Old, Nothing) => Next::Make(Move::MadeToKept),
        (Old, New, Nothing) => Next::Make(match kernel {
            Kernel::Exchanges => Move::ExchangeLiveMade,
            Kernel::OnlyMoves => Move::LiveToKept,
        }),
        (Nothing, New, Old | Nothing) => Next::Make(Move::MadeToLive),
        // A way back that was broken off by an exchange.
        (Old, Nothing, New) => Next::Make(Move::KeptToMade),
        _ => Next::Lost,
    }
}

fn next_back(Places { live, made, kept }: Places, kernel: Kernel) -> Next {
    use Holds::{New, Nothing, Old, Strange};
    // Whoever wants the old data back gets it, whatever has become of the new since.
    match (live, made, kept) {
        (Old, New | Strange | Nothing, Nothing) | (Nothing, New | Nothing, Nothing) => Next::Done,
        (Old, Nothing, New | Strange) => Next::Make(Move::KeptToMade),
        (New | Strange, Nothing, Old) => Next::Make(match kernel {
            Kernel::Exchanges => Move::ExchangeLiveKept,
            Kernel::OnlyMoves => Move::LiveToMade,
        }),
        (New | Strange, Old, Nothing) => Next::Make(match kernel {
            Kernel::Exchanges => Move::ExchangeLiveMade,
            Kernel::OnlyMoves => Move::MadeToKept,
        }),
        (Nothing, New | Strange | Nothing, Old) => Next::Make(Move::KeptToLive),
        // There was nothing before, or else it would be somewhere.
        (New, Nothing, Nothing) => Next::Make(Move::LiveToMade),
        _ => Next::Lost,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use Holds::{New, Nothing, Old};

    /// What the kernel does, which refuses to move over something.
    fn after(Places { live, made, kept }: Places, step: Move) -> Places {
        let [live, made, kept] = match step {
            Move::ExchangeLiveMade => [made, live, kept],
            Move::ExchangeLiveKept => [kept, made, live],
            Move::LiveToKept if kept == Nothing => [Nothing, made, live],
            Move::LiveToMade if made == Nothing => [Nothing, live, kept],
            Move::MadeToLive if live == Nothing => [made, Nothing, kept],
            Move::KeptToLive if live == Nothing => [kept, made, Nothing],
            Move::MadeToKept if kept == Nothing => [live, Nothing, made],
            Move::KeptToMade if made == Nothing => [live, kept, Nothing],
            refused => panic!("{refused:?} over something"),
        };
        Places { live, made, kept }
    }

    fn choice() -> impl Strategy<Value = (Direction, Kernel)> {
        let direction = prop_oneof![Just(Direction::In), Just(Direction::Back)];
        (
            direction,
            prop_oneof![4 => Just(Kernel::Exchanges), 1 => Just(Kernel::OnlyMoves)],
        )
    }

    proptest! {
        #[test]
        fn from_wherever_a_run_died_the_next_one_gets_to_either_end(
            old in prop_oneof![Just(Old), Just(Nothing)],
            turns in proptest::collection::vec(choice(), 0..12),
            (direction, kernel) in choice(),
        ) {
            let mut places = Places { live: old, made: New, kept: Nothing };
            let before = if old == Nothing { Before::Nothing } else { Before::Data };
            let exchanges = turns.iter().all(|(_, kernel)| *kernel == Kernel::Exchanges);
            for (direction, kernel) in turns {
                if let Next::Make(step) = next(places, before, direction, kernel) {
                    places = after(places, step);
                }
                prop_assert!(!exchanges || old == Nothing || places.live != Nothing, "{places:?}");
            }
            let mut moves = 0;
            while let Next::Make(step) = next(places, before, direction, kernel) {
                places = after(places, step);
                moves += 1;
                prop_assert!(moves <= 4, "it goes round in circles: {places:?}");
            }
            prop_assert_eq!(next(places, before, direction, kernel), Next::Done);
            let ends = match direction {
                Direction::In => Places { live: New, made: Nothing, kept: old },
                Direction::Back => Places { live: old, made: New, kept: Nothing },
            };
            prop_assert_eq!(places, ends);
        }
    }

    #[test]
    fn what_cannot_have_come_from_this_restore_is_not_touched() {
        let odd = [
            (Holds::Strange, New, Nothing),
            (New, Nothing, Holds::Strange),
            (New, New, Nothing),
            (Nothing, Old, New),
        ];
        for (live, made, kept) in odd {
            for direction in [Direction::In, Direction::Back] {
                let places = Places { live, made, kept };
                let next = next(places, Before::Nothing, direction, Kernel::Exchanges);
                assert_eq!(next, Next::Lost, "{places:?}");
            }
        }
    }

    #[test]
    fn old_data_that_is_nowhere_is_not_taken_for_back() {
        let others = [Nothing, New, Holds::Strange];
        for live in others {
            for made in others {
                for kept in others {
                    let places = Places { live, made, kept };
                    let next = next(places, Before::Data, Direction::Back, Kernel::Exchanges);
                    assert_eq!(next, Next::Gone, "{places:?}");
                }
            }
        }
    }

    #[test]
    fn the_old_data_comes_back_whatever_has_become_of_the_new() {
        for live in [Holds::Strange, Nothing] {
            for kernel in [Kernel::Exchanges, Kernel::OnlyMoves] {
                let (made, kept) = (Nothing, Old);
                let mut places = Places { live, made, kept };
                while let Next::Make(step) = next(places, Before::Data, Direction::Back, kernel) {
                    places = after(places, step);
                }
                let (made, kept) = (live, Nothing);
                assert_eq!(places, Places { live: Old, made, kept });
            }
        }
    }
}
