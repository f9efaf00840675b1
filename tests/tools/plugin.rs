//! A plugin of age for the tests: `age1sample1…`, `AGE-PLUGIN-SAMPLE-1…`. Its keys hide nothing from anybody.
//!
//! `age-plugin-sample plain|pin|confirm|slow` prints a recipient and an identity, of which the latter opens at once, asks for
//! the PIN 1234, asks whether it may, or takes a few seconds.

use std::io::{self, BufRead, Write};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};

/// What a file key is mixed with.
const MASK: u8 = 0x5a;

/// How an identity opens: its first byte says which of them.
const MODES: [&str; 4] = ["plain", "pin", "confirm", "slow"];

/// How long a slow one takes.
const SLOW: std::time::Duration = std::time::Duration::from_secs(4);

fn main() {
    let word = std::env::args().nth(1).unwrap_or_default();
    match word.strip_prefix("--age-plugin=") {
        Some(machine) => speak(machine == "identity-v1"),
        None => {
            let mode = MODES.iter().position(|mode| *mode == word).expect("it is a mode");
            let mode = u8::try_from(mode).expect("there are few");
            let key = |prefix: &str, data: &[u8]| bech32::encode::<Bech32>(Hrp::parse_unchecked(prefix), data);
            let recipient = key("age1sample", &[7; 4]).expect("it is short");
            let identity = key("age-plugin-sample-", &[mode]).expect("it is short");
            println!("{recipient}\n{}", identity.to_ascii_uppercase());
        }
    }
}

type Stanza = (Vec<String>, Vec<u8>);

fn read() -> Stanza {
    let mut lines = io::stdin().lock().lines().map(|line| line.expect("it is text"));
    let head = lines.next().expect("somebody speaks");
    let words = head
        .strip_prefix("-> ")
        .expect("it is a stanza")
        .split(' ')
        .map(str::to_owned);
    let (words, mut body) = (words.collect(), Vec::new());
    for line in lines {
        body.extend(BASE64.decode(&line).expect("it is base64"));
        if line.len() < 64 {
            break;
        }
    }
    (words, body)
}

fn say(head: &str, body: &[u8]) {
    println!("-> {head}");
    let body = BASE64.encode(body);
    for line in body.as_bytes().chunks(64) {
        println!("{}", std::str::from_utf8(line).expect("it is base64"));
    }
    if body.len().is_multiple_of(64) {
        println!();
    }
    io::stdout().flush().expect("somebody listens");
}

fn ask(head: &str, body: &[u8]) -> Stanza {
    say(head, body);
    read()
}

fn masked(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ MASK).collect()
}

fn speak(opens: bool) {
    let (mut mode, mut wrapped, mut file_key) = (0, None, Vec::new());
    loop {
        let (words, body) = read();
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["done"] => break,
            ["add-identity", text] => {
                let checked = CheckedHrpstring::new::<Bech32>(text).expect("it is a key");
                mode = usize::from(checked.byte_iter().next().expect("it has a mode"));
            }
            ["recipient-stanza", "0", "sample", ..] => wrapped = Some(body),
            ["wrap-file-key"] => file_key = body,
            _ => {}
        }
    }
    let (answer, _) = ask("no-such-command 1", &[]);
    assert_eq!(answer, ["unsupported"]);
    match (opens, wrapped) {
        (false, _) => drop(ask("recipient-stanza 0 sample x", &masked(&file_key))),
        (true, None) => {}
        (true, Some(wrapped)) => {
            let refused = match MODES[mode] {
                "pin" => {
                    let (answer, pin) = ask("request-secret", b"PIN of the sample:");
                    let is_right = answer == ["ok"] && pin == b"1234";
                    (!is_right).then_some("the PIN is wrong, or nobody gave it")
                }
                "confirm" => {
                    let (yes, no) = (BASE64.encode("open it"), BASE64.encode("leave it"));
                    let (answer, body) = ask(&format!("confirm {yes} {no}"), b"May the sample open it?");
                    let is_so = answer == ["ok", "yes"] && body.is_empty();
                    (!is_so).then_some("nobody has confirmed it")
                }
                "slow" => {
                    std::thread::sleep(SLOW);
                    None
                }
                _ => None,
            };
            match refused {
                None => ask("file-key 0", &masked(&wrapped)),
                Some(why) => ask("error identity 0", why.as_bytes()),
            };
        }
    }
    say("done", &[]);
}
