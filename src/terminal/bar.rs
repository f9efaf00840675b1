//! A progress bar on a terminal; nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;

/// A bar over bytes, or nothing to see.
pub struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar for `what`, where progress is shown at all.
    pub fn new(output: &Output, what: &'static str) -> Bar {
        if !output.shows_progress() {
            return Bar(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{msg} … {elapsed}"));
        bar.set_message(what);
        Bar(Some(bar))
    }

    /// Shows how far the work is.
    pub fn at(&self, done: u64, total: u64) {
        let Some(bar) = &self.0 else { return };
        if total == 0 {
            return;
        }
        if bar.length().is_none() {
            bar.set_length(total);
            // No more than 50 columns hold beside the bar.
            bar.set_style(style(
                "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}, {elapsed}, {eta} left",
            ));
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.set_position(done);
    }

    /// Shows how far the work is, where its bytes are those of several passes and would mean nothing to anybody.
    pub fn share(&self, done: u64, total: u64) {
        let Some(bar) = &self.0 else { return };
        if total > 0 && bar.length().is_none() {
            bar.set_length(total);
            bar.set_style(style("{msg} {wide_bar} {percent} %, {elapsed}, {eta} left"));
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        bar.set_position(done);
    }

    /// Shows that something else is being done now.
    pub fn now(&self, what: &'static str) {
        if let Some(bar) = &self.0 {
            bar.set_style(style("{spinner} {msg} ({elapsed})"));
            bar.set_message(what);
        }
    }

    /// Shows one line that has no end of its own.
    pub fn says(&self, what: String) {
        if let Some(bar) = &self.0 {
            bar.set_style(style("{spinner} {msg}"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.set_message(what);
        }
    }

    /// Takes it off the screen.
    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("our templates are valid")
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}
