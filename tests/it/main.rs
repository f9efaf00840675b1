//! The integration tests, one binary: real servers, the real command line, recorded vectors.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::disallowed_methods, reason = "tests play everybody else on a host, too")]

mod adopting;
mod agent;
mod apart;
mod applying;
mod architecture;
mod backup_and_rebuild;
mod bad_input;
mod behind;
mod calendar;
mod capturing;
mod catching_up;
mod checking_deltas;
mod clock;
mod commands;
mod compact;
mod config;
mod continuity;
mod copying;
mod crash;
mod damaged_chain;
mod delta_vector;
mod doubtful_history;
mod following;
mod grid;
mod hanging;
mod inspect;
mod json;
mod metrics;
mod names;
mod odd_data;
mod one_writer;
mod outside;
mod owners;
mod packages;
mod plugins;
mod points;
mod rebuild;
mod recipients;
mod restore;
mod retention;
mod rewrap;
mod runbooks;
mod s3;
mod salvage;
mod settings;
mod several_writers;
mod sftp;
mod sheet;
mod signing;
mod soak;
#[path = "../spellings/mod.rs"]
#[allow(dead_code, reason = "the lab uses the rest")]
mod spellings;
mod status;
mod stores;
#[allow(dead_code, reason = "one shelf for all tests; not every item is in use at all times")]
mod support;
mod swift;
mod synthetic;
mod systemd;
mod units;
mod vectors;
mod verify;
mod watching;
mod wording;
mod wrong_data;
