//! The operator's last word on which history is meant, as this host has seen it: `last-word.json`. The destination that has it may be
//! away, or lost.

use serde::{Deserialize, Serialize};

use super::{Error, State};
use crate::catalog::NumberedWord;
use crate::layout::Acceptance;

const LAST_WORD: &str = "last-word.json";
/// A word on more histories than that is not remembered: no cluster has so many.
const MOST_KNOWN: usize = 1000;
/// How long the name of a host is at most.
const LONGEST_NAME: usize = 255;

#[derive(Serialize, Deserialize)]
struct LastWord {
    number: u32,
    word: Acceptance,
}

impl State {
    /// The word, and its number; none where nothing was said yet.
    pub fn last_word(&self) -> Result<Option<NumberedWord>, Error> {
        let read: Option<LastWord> = self.recall(LAST_WORD)?;
        Ok(read.map(|read| (read.number, read.word)))
    }

    /// Remembers a word, unless one that was given later is remembered.
    pub fn remember_word(&self, (number, word): &NumberedWord) -> Result<(), Error> {
        if word.known.len() > MOST_KNOWN || word.host.len() > LONGEST_NAME {
            return Ok(());
        }
        // Why it was given is told by the document in the store.
        let word = Acceptance {
            note: None,
            ..word.clone()
        };
        let _lock = self.lock_of_what_was_seen()?;
        let is_news = self.last_word()?.is_none_or(|(last, said)| {
            let is_later = *number > last || word.accepted_at > said.accepted_at;
            is_later || (*number == last && word.accepted_at == said.accepted_at && word != said)
        });
        match is_news {
            true => self.remember(LAST_WORD, LastWord { number: *number, word }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_remembered_and_no_earlier_one_takes_its_place() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        assert_eq!(state.last_word().unwrap(), None);
        let word = |number, day: u32| -> NumberedWord {
            let accepted = "ab-00000001".parse().unwrap();
            let word = Acceptance {
                format: 1,
                known: vec![accepted],
                accepted: "ab-00000001".parse().unwrap(),
                accepted_at: format!("2026-11-{day}T11:00:00Z").parse().unwrap(),
                host: "a".to_owned(),
                note: None,
            };
            (number, word)
        };
        let kept_after = |word: &NumberedWord| {
            state.remember_word(word).unwrap();
            state.last_word().unwrap().unwrap()
        };
        let noted = Acceptance {
            note: Some("why".to_owned()),
            ..word(2, 21).1
        };
        assert_eq!(kept_after(&(2, noted)), word(2, 21));
        assert_eq!(kept_after(&word(2, 20)), word(2, 21));
        assert_eq!(kept_after(&word(1, 22)), word(1, 22), "by a host that saw fewer");
        assert_eq!(kept_after(&word(3, 20)), word(3, 20), "the clock was ahead before");
        let mut large = word(9, 29);
        large.1.known = vec![large.1.accepted.clone(); MOST_KNOWN + 1];
        assert_eq!(kept_after(&large), word(3, 20));
        std::fs::write(state.folder().join(LAST_WORD), "{}").unwrap();
        assert!(state.last_word().is_err() && state.remember_word(&word(9, 29)).is_err());
    }
}
