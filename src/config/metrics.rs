//! `[metrics]`: where the agent's metrics can be read.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use super::section::Section;

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where they are served.
    pub listen: Option<Listen>,
    /// The file that they are written to, for node_exporter.
    pub textfile: Option<PathBuf>,
}

/// An address that only this host reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port of the loopback.
    Port(SocketAddr),
    /// A socket in the file system.
    Socket(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Port(address) => address.fmt(f),
            Listen::Socket(path) => path.display().fmt(f),
        }
    }
}

impl Reader<'_> {
    pub(super) fn metrics(&mut self, root: &Section<'_>) -> Metrics {
        let section = root.section("metrics");
        let listen = section.text("listen").and_then(|given| {
            let text = given.value;
            if Path::new(text).is_absolute() {
                return Some(Listen::Socket(text.into()));
            }
            match text.parse::<SocketAddr>() {
                Ok(address) if address.ip().is_loopback() => Some(Listen::Port(address)),
                Ok(_) => {
                    let message = format!(
                        "`{}` is not an address of the loopback: there is no login, so it is served to this host alone; \
                         use `127.0.0.1:9379` and a proxy of your own",
                        given.path
                    );
                    self.problems.at(given.origin, &message);
                    None
                }
                Err(_) => self.refuse(&section, "listen", &given),
            }
        });
        let textfile = section.text("textfile").and_then(|given| {
            let path = Path::new(given.value);
            // Others are passed over by node_exporter.
            let is_fit = path.is_absolute() && path.extension().is_some_and(|extension| extension == "prom");
            match is_fit {
                true => Some(path.to_owned()),
                false => self.refuse(&section, "textfile", &given),
            }
        });
        Metrics { listen, textfile }
    }
}
