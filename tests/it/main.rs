//! The integration tests, one binary: real servers, the real command line, recorded vectors.

mod architecture;
mod config;
#[allow(dead_code, reason = "one shelf for all tests; not every item is in use at all times")]
mod support;
mod vectors;
