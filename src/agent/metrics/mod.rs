//! The metrics: what is measured (`families`), and where it goes (`outlets`): to whoever asks (`server`), and into a file.

mod families;
mod outlets;
mod server;

pub use families::{Flavour, Sample, render, samples};
pub(super) use outlets::Metrics;
