//! Schedules.
pub mod calendar;
