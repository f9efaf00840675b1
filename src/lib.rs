//! Backup and restore of etcd on bare-metal and VM hosts.
pub mod model;
pub mod bbolt;
pub mod keyspace;
pub mod datadir;
pub mod durable;
pub mod pipeline;
pub mod source;
pub mod etcd;
pub mod rebuild;
