//! Backup and restore of etcd on bare-metal and VM hosts.
//!
//! The modules in reading order; each may use those above it and no other (`docs/architecture.md`).

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests play everybody else on a host, too")
)]

pub mod error_chain;
pub mod model;
pub mod text;

// Formats and decisions: plain functions over values.
pub mod bbolt;
pub mod catalog;
pub mod datadir;
pub mod etcd_settings;
pub mod health;
pub mod keyspace;
pub mod layout;
pub mod mounts;
pub mod retention;
pub mod sandbox;
pub mod schedule;
pub mod signing;

// The world, each in one place.
pub mod destinations;
pub mod durable;
pub mod etcd;
pub mod pipeline;
pub mod process;
pub mod secret;
pub mod slots;
pub mod source;
pub mod state;
pub mod store;
pub mod systemd;

// What the program does.
pub mod backup;
pub mod capture;
pub mod copy;
pub mod pack;
pub mod prune;
pub mod rebuild;
pub mod restore;
pub mod rewrap;
pub mod verify;

// Whoever asks for it.
pub mod agent;
pub mod cli;
pub mod config;
pub mod jobs;
pub mod json;
pub mod status;
pub mod terminal;
