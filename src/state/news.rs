//! The word that a command leaves for the agent: something has changed that it judges by.
//!
//! An agent looks at the destinations now and then; what somebody does by hand would be told wrong until it does. It watches
//! this one file, which it never writes itself: so it is not woken by its own doings.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::{Holder, State};

/// Its name in the folder of the cluster.
pub const NEWS: &str = "news.json";

/// Which word was left last, as far as it can be told without reading it. None where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastNews(Option<(u64, i64, i64)>);

impl State {
    /// Tells the agent that `run` has changed something in a destination or in what this host remembers. Where it cannot be told
    /// the agent sees it with its next look.
    pub fn tell_agent(&self, run: &Holder) {
        // Where no agent ever was there is nobody to tell.
        if self.folder.is_dir() {
            self.remember(NEWS, run).ok();
        }
    }

    /// Which word was left last.
    pub fn last_news(&self) -> LastNews {
        let found = std::fs::symlink_metadata(self.news()).ok();
        LastNews(found.map(|found| (found.ino(), found.mtime(), found.mtime_nsec())))
    }

    /// Where words are left.
    pub fn news(&self) -> PathBuf {
        self.folder.join(NEWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_another_and_none_is_left_where_nobody_reads_it() {
        let base = tempfile::tempdir().unwrap();
        let state = State::at(base.path(), &"prod".parse().unwrap());
        let run = Holder::this("lifeboat backup", "2026-11-20T10:15:30Z".parse().unwrap());
        state.tell_agent(&run);
        assert!(!state.folder().exists());
        std::fs::create_dir(state.folder()).unwrap();
        let none = state.last_news();
        assert_eq!(none, LastNews::default());
        state.tell_agent(&run);
        let first = state.last_news();
        assert_ne!(first, none);
        assert_eq!(state.last_news(), first);
        state.tell_agent(&run);
        assert_ne!(state.last_news(), first);
        let text = std::fs::read_to_string(state.news()).unwrap();
        assert!(
            text.contains("\"format\":1") && text.contains("lifeboat backup"),
            "{text}"
        );
    }
}
