//! A network namespace for a host, and cables out of it that can be cut. Needs root.
//!
//! What is at the other end listens on the loopback address of this side; a relay of the test's own listens on the cable and
//! passes everything. A cable that is cut is a link that is down: packets are lost, and nobody is told that a connection ended.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use super::tools;

/// A namespace. Dropped, it is removed with its cables; what runs in it is to have ended by then.
pub struct Namespace {
    name: String,
    cables: Vec<Cable>,
}

struct Cable {
    /// The link at this side.
    link: String,
    here: Ipv4Addr,
}

impl Namespace {
    /// One with so many cables, or `None` after saying that what needs it is left out.
    pub fn new(cables: u8) -> Option<Namespace> {
        let tag = getrandom::u32().expect("the kernel gives random numbers") & 0xff_ffff;
        let mut namespace = Namespace {
            name: format!("lb{tag:06x}"),
            cables: Vec::new(),
        };
        let name = namespace.name.clone();
        if !nix::unistd::geteuid().is_root() || !ip(&["netns", "add", &name]) {
            tools::skip("right to make a network namespace", "it needs root and ip of iproute2");
            return None;
        }
        assert!(ip(&["-n", &name, "link", "set", "lo", "up"]));
        let [_, first, second, _] = tag.to_be_bytes();
        for number in 0..cables {
            let at = |host| Ipv4Addr::new(10, 128 | first, second, number * 4 + host);
            let (here, there) = (at(1), at(2));
            let (link, inside) = (format!("{name}o{number}"), format!("{name}i{number}"));
            let (here_net, there_net) = (format!("{here}/30"), format!("{there}/30"));
            let done = ip(&[
                "link", "add", &link, "type", "veth", "peer", "name", &inside, "netns", &name,
            ]) && ip(&["addr", "add", &here_net, "dev", &link])
                && ip(&["link", "set", &link, "up"])
                && ip(&["-n", &name, "addr", "add", &there_net, "dev", &inside])
                && ip(&["-n", &name, "link", "set", &inside, "up"]);
            assert!(done, "a namespace can be given a cable");
            namespace.cables.push(Cable { link, here });
        }
        Some(namespace)
    }

    /// The URL, at the other end of a cable, of a server of this side.
    pub fn url_over(&self, cable: usize, url: &str) -> String {
        let (scheme, address) = url.split_once("://").expect("a URL has a scheme");
        let address = address.to_owned();
        let here = self.cables[cable].here;
        let listener = TcpListener::bind((here, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is not there: the client is told so by the end of its connection.
                if let Ok(server) = TcpStream::connect(&address) {
                    relay(&client, &server);
                    relay(&server, &client);
                }
            }
        });
        format!("{scheme}://{here}:{port}")
    }

    /// Cuts a cable, or mends it.
    pub fn cut(&self, cable: usize, is_cut: bool) {
        let state = if is_cut { "down" } else { "up" };
        assert!(ip(&["link", "set", &self.cables[cable].link, state]));
    }

    /// The same command, in it.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside
            .args(["netns", "exec", &self.name])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(key, value),
                None => inside.env_remove(key),
            };
        }
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for cable in &self.cables {
            ip(&["link", "del", &cable.link]);
        }
        ip(&["netns", "del", &self.name]);
    }
}

fn relay(from: &TcpStream, to: &TcpStream) {
    let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor can be copied");
    let (mut from, mut to) = (copy(from), copy(to));
    thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    });
}

fn ip(args: &[&str]) -> bool {
    let args = args.iter().map(OsStr::new);
    let ended = Command::new("ip").args(args).output();
    ended.is_ok_and(|ended| ended.status.success())
}
