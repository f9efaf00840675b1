//! When files that change are read: once whoever writes them has done so.
//!
//! A file that is being written is seen half. So they are read when nothing has happened for a while; and what is wrong with
//! them then is believed only when nothing has happened for longer. Pure: from what happened when, and from `now`.

use std::time::{Duration, Instant};

/// For how long the files must be left alone before they are read.
const QUIET: Duration = Duration::from_millis(500);
/// For how long before what is wrong with them is told.
const BELIEVED_AFTER: Duration = Duration::from_secs(3);
/// After how long they are read, and believed, though somebody goes on writing.
const AT_THE_LATEST: Duration = Duration::from_secs(30);

/// What has happened to the files since they were read, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Settling(Option<Changes>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changes {
    first: Instant,
    last: Instant,
    /// They were read since, and were wrong.
    were_wrong: bool,
}

impl Settling {
    /// Something was changed at `now`.
    pub(super) fn changed(&mut self, now: Instant) {
        let first = self.0.map_or(now, |changes| changes.first);
        self.0 = Some(Changes {
            first,
            last: now,
            were_wrong: false,
        });
    }

    /// Whether something has changed that is still to be read.
    pub(super) fn is_pending(&self) -> bool {
        self.0.is_some()
    }

    /// When the files are to be read.
    pub(super) fn read_at(&self) -> Option<Instant> {
        let changes = self.0?;
        let quiet = if changes.were_wrong { BELIEVED_AFTER } else { QUIET };
        Some((changes.last + quiet).min(changes.first + AT_THE_LATEST))
    }

    /// Whether what is wrong with the files at `now` is believed; where it is not, they are read once more.
    pub(super) fn believes(&mut self, now: Instant) -> bool {
        let Some(changes) = &mut self.0 else { return true };
        let is_settled = now >= (changes.last + BELIEVED_AFTER).min(changes.first + AT_THE_LATEST);
        changes.were_wrong = true;
        is_settled
    }

    /// They were read, and that is all there is to it.
    pub(super) fn done(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begun: Instant, milliseconds: u64) -> Instant {
        begun + Duration::from_millis(milliseconds)
    }

    #[test]
    fn they_are_read_once_they_are_left_alone() {
        let begun = Instant::now();
        let mut settling = Settling::default();
        assert_eq!((settling.read_at(), settling.is_pending()), (None, false));
        settling.changed(begun);
        assert_eq!(settling.read_at(), Some(after(begun, 500)));
        settling.changed(after(begun, 400));
        assert_eq!(settling.read_at(), Some(after(begun, 900)));
        settling.done();
        assert_eq!(settling, Settling::default());
    }

    #[test]
    fn half_a_file_is_not_believed_and_a_whole_wrong_one_is() {
        let begun = Instant::now();
        let mut settling = Settling::default();
        settling.changed(begun);
        assert!(!settling.believes(after(begun, 500)), "somebody may still write");
        assert_eq!(settling.read_at(), Some(after(begun, 3000)));
        // He does.
        settling.changed(after(begun, 1000));
        assert_eq!(settling.read_at(), Some(after(begun, 1500)));
        assert!(!settling.believes(after(begun, 1500)));
        assert_eq!(settling.read_at(), Some(after(begun, 4000)));
        assert!(settling.believes(after(begun, 4000)));
        settling.done();
        assert!(
            settling.believes(begun),
            "nothing has changed, or somebody has asked for it"
        );
    }

    #[test]
    fn who_never_ends_writing_is_not_waited_for_for_ever() {
        let begun = Instant::now();
        let mut settling = Settling::default();
        for step in 0..100 {
            settling.changed(after(begun, step * 400));
        }
        assert_eq!(settling.read_at(), Some(after(begun, 30_000)));
        assert!(settling.believes(after(begun, 40_000)));
    }
}
