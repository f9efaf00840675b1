//! A line to a server of HTTP on which the test counts the requests and holds one of them: before the server has seen it, or
//! when it has done what it was asked and the client does not know. Its clock can be made to show a later time.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::DateTime;

/// On which side of the server's work a request is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The server never sees it.
    Unseen,
    /// The server has done it, and nobody hears that.
    Done,
}

/// The line. Dropped, it lets everything through and takes no new connection.
pub struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    requests: Mutex<Requests>,
    changed: Condvar,
}

#[derive(Default)]
struct Requests {
    /// The first line of each that came, in order.
    seen: Vec<String>,
    /// The number of the one to hold, counted from 1, and where.
    hold: Option<(usize, Held)>,
    is_held: bool,
    is_down: bool,
    /// How much later than it is the answers say that it is.
    ahead: SignedDuration,
}

impl State {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().expect("nobody panics with it")
    }

    /// Waits here, until the one who has sent this is gone.
    fn hold(&self) {
        let mut requests = self.requests();
        requests.is_held = true;
        self.changed.notify_all();
        let waits = |requests: &mut Requests| requests.is_held;
        drop(self.changed.wait_while(requests, waits).expect("nobody panics with it"));
    }
}

impl Wire {
    /// A line to the server at this URL, on which nothing is held.
    pub fn to(endpoint: &str) -> Wire {
        let address = endpoint.strip_prefix("http://").expect("it is plain HTTP").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.requests().is_down {
                    return;
                }
                // A server that is not there: the client is told so by the end of its connection.
                if let Ok(server) = TcpStream::connect(&address) {
                    connect(&client, &server, &shared);
                }
            }
        });
        Wire { port, state }
    }

    /// The URL of the server at its other end.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Counts anew, and holds the request of that number, counted from 1.
    pub fn hold(&self, number: usize, held: Held) {
        let mut requests = self.state.requests();
        requests.seen.clear();
        requests.hold = Some((number, held));
    }

    /// Waits until it is held, or `has_ended` says that it will not come. Whether it is.
    pub fn is_held_before(&self, has_ended: impl Fn() -> bool) -> bool {
        let mut requests = self.state.requests();
        while !requests.is_held {
            if has_ended() {
                return false;
            }
            let waited = self.state.changed.wait_timeout(requests, Duration::from_millis(20));
            (requests, _) = waited.expect("nobody panics with it");
        }
        true
    }

    /// Holds nothing from now on. What was held never arrives.
    pub fn let_pass(&self) {
        let mut requests = self.state.requests();
        (requests.hold, requests.is_held) = (None, false);
        self.state.changed.notify_all();
    }

    /// Has the server's clock show so much more in its answers from now on.
    pub fn ahead(&self, by: SignedDuration) {
        self.state.requests().ahead = by;
    }

    /// The first line of each request since [`Wire::hold`], in order.
    pub fn seen(&self) -> Vec<String> {
        self.state.requests().seen.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.let_pass();
        self.state.requests().is_down = true;
        // Wakes the listener, which sees that it is over.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn connect(client: &TcpStream, server: &TcpStream, state: &Arc<State>) {
    let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor can be copied");
    // A client that has its answer begins a request with what it sends next.
    let (is_answered, withholds) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (from, to, shared) = (copy(client), copy(server), state.clone());
    let (answered, withheld) = (is_answered.clone(), withholds.clone());
    thread::spawn(move || {
        pass(from, to, |bytes| {
            if !answered.swap(false, Ordering::SeqCst) {
                return true;
            }
            let first = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let mut requests = shared.requests();
            requests.seen.push(String::from_utf8_lossy(first).into_owned());
            let number = requests.seen.len();
            match requests.hold.filter(|(held, _)| *held == number) {
                Some((_, Held::Unseen)) => {
                    drop(requests);
                    shared.hold();
                    false
                }
                Some((_, Held::Done)) => {
                    withheld.store(true, Ordering::SeqCst);
                    true
                }
                None => true,
            }
        });
    });
    let (from, to, shared) = (copy(server), copy(client), state.clone());
    thread::spawn(move || {
        pass(from, to, |bytes| {
            if withholds.load(Ordering::SeqCst) {
                shared.hold();
                return false;
            }
            if !is_answered.swap(true, Ordering::SeqCst) {
                set_ahead(bytes, shared.requests().ahead);
            }
            true
        });
    });
}

/// Has the date in the head of an answer be later.
fn set_ahead(answer: &mut [u8], by: SignedDuration) {
    const NAME: &[u8] = b"\r\nDate: ";
    const FORM: &str = "%a, %d %b %Y %H:%M:%S GMT";
    if by.is_zero() {
        return;
    }
    let Some(at) = answer.windows(NAME.len()).position(|part| part == NAME) else {
        return;
    };
    let date = &mut answer[at + NAME.len()..];
    let length = date.iter().position(|byte| *byte == b'\r').expect("a line ends");
    let text = std::str::from_utf8(&date[..length]).expect("a date is text");
    let shown = DateTime::strptime(FORM, text).expect("it is a date of HTTP") + by;
    date[..length].copy_from_slice(shown.strftime(FORM).to_string().as_bytes());
}

/// Hands on what comes, until one of both ends or `goes_on` says no: then both are ended.
fn pass(mut from: TcpStream, mut to: TcpStream, goes_on: impl Fn(&mut [u8]) -> bool) {
    let mut block = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut block) {
        let bytes = &mut block[..read];
        if !goes_on(bytes) || to.write_all(bytes).is_err() {
            break;
        }
    }
    for end in [&from, &to] {
        end.shutdown(Shutdown::Both).ok();
    }
}
