//! A stretch of wire in the test's hand: a proxy before a member that passes some bytes of its answers and then waits,
//! that waits at a certain answer, or that changes a byte on the way.
//!
//! What is tested in the middle of a stream is thereby in its middle, however fast or slow the machine is.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::shared::PATTERN;

/// As many equal bytes are no frame of the protocol.
const RUN: usize = 512;

/// How long a stream may take to come to the gate.
const PATIENCE: Duration = Duration::from_secs(60);

/// The proxy. Dropped, it lets everything through and takes no new connection.
pub struct Gate {
    /// Where it listens: the member's URL with another port.
    pub url: String,
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    wire: Mutex<Wire>,
    changed: Condvar,
}

#[derive(Default)]
struct Wire {
    /// Bytes of answers that may still pass; `None` is all.
    left: Option<u64>,
    held: bool,
    /// An answer that holds this text does not pass.
    stops_at: Option<String>,
    /// Where a run of [`super::shared::PATTERN`] passes, one of its bytes is changed.
    flips: bool,
    down: bool,
}

impl Gate {
    /// A gate before the member at `member_url` that passes the first `bytes` of what it answers, then waits.
    pub fn before(member_url: &str, bytes: u64) -> Gate {
        let gate = Gate::open_before(member_url);
        gate.hold_after(bytes);
        gate
    }

    /// A wire that changes one byte of the database that the shared server sends.
    pub fn flipping(member_url: &str) -> Gate {
        let gate = Gate::open_before(member_url);
        gate.state.wire.lock().expect("nobody panics with it").flips = true;
        gate
    }

    /// A gate before the member at `member_url` that passes everything but answers with this text.
    pub fn stopping_at(member_url: &str, text: &str) -> Gate {
        let gate = Gate::open_before(member_url);
        gate.state.wire.lock().expect("nobody panics with it").stops_at = Some(text.to_owned());
        gate
    }

    fn open_before(member_url: &str) -> Gate {
        let (scheme, address) = member_url.split_once("://").expect("a URL has a scheme");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State::default());
        let (address, shared) = (address.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.wire.lock().expect("nobody panics with it").down {
                    return;
                }
                // A member that is not there: the client is told so by the end of its connection.
                if let Ok(member) = TcpStream::connect(&address) {
                    connect(client, member, &shared);
                }
            }
        });
        let url = format!("{scheme}://127.0.0.1:{port}");
        Gate { url, port, state }
    }

    /// Waits until the stream has come to the gate.
    pub fn wait_until_held(&self) {
        let wire = self.state.wire.lock().expect("nobody panics with it");
        let (wire, _) = self
            .state
            .changed
            .wait_timeout_while(wire, PATIENCE, |wire| !wire.held)
            .expect("nobody panics with it");
        assert!(wire.held, "no stream came to the gate in {PATIENCE:?}");
    }

    /// Whether a stream waits at the gate.
    pub fn is_held(&self) -> bool {
        self.state.wire.lock().expect("nobody panics with it").held
    }

    /// Lets everything through from now on.
    pub fn open(&self) {
        let mut wire = self.state.wire.lock().expect("nobody panics with it");
        (wire.left, wire.stops_at, wire.held) = (None, None, false);
        self.state.changed.notify_all();
    }

    /// Waits again once another `bytes` have passed.
    pub fn hold_after(&self, bytes: u64) {
        let mut wire = self.state.wire.lock().expect("nobody panics with it");
        (wire.left, wire.held) = (Some(bytes), false);
        self.state.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
        self.state.wire.lock().expect("nobody panics with it").down = true;
        // Wakes the listener, which sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn connect(client: TcpStream, member: TcpStream, state: &Arc<State>) {
    let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor can be copied");
    let (mut from_client, mut to_member) = (copy(&client), copy(&member));
    thread::spawn(move || {
        std::io::copy(&mut from_client, &mut to_member).ok();
        to_member.shutdown(Shutdown::Both).ok();
    });
    let state = Arc::clone(state);
    thread::spawn(move || {
        pass(member, &client, &state);
        client.shutdown(Shutdown::Both).ok();
    });
}

fn pass(mut member: TcpStream, mut client: &TcpStream, state: &State) {
    let mut bytes = [0; 16 << 10];
    loop {
        let read = match member.read(&mut bytes) {
            Ok(read @ 1..) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return,
        };
        let mut wire = state.wire.lock().expect("nobody panics with it");
        let holds = |text: &String| bytes[..read].windows(text.len()).any(|part| part == text.as_bytes());
        while wire.left.is_some_and(|left| left < read as u64) || wire.stops_at.as_ref().is_some_and(holds) {
            wire.held = true;
            state.changed.notify_all();
            wire = state.changed.wait(wire).expect("nobody panics with it");
        }
        wire.left = wire.left.map(|left| left - read as u64);
        let run = bytes[..read].windows(RUN).position(|run| run == [PATTERN; RUN]);
        if let (true, Some(at)) = (wire.flips, run) {
            bytes[at + RUN / 2] ^= 1;
            wire.flips = false;
        }
        drop(wire);
        if client.write_all(&bytes[..read]).is_err() {
            return;
        }
    }
}
