//! What a case that fails has to say, kept by the thread that runs it until it has ended.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::panic;

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Adds something to what the case has to say.
pub fn note(title: &str, text: &str) {
    SAID.with_borrow_mut(|said| {
        writeln!(said, "--- {title}").expect("a string can be written to");
        for line in text.lines() {
            writeln!(said, "    {line}").expect("a string can be written to");
        }
    });
}

/// Takes everything that was noted by this thread.
pub fn take() -> String {
    SAID.take()
}

/// From now on a panic is noted, not printed: cases run beside each other.
pub fn note_panics() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload_as_str().unwrap_or("a panic without a text");
        note(&place, text);
    }));
}
