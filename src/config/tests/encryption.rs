//! `[encryption]`: recipients, from the list and the file.

use super::*;

#[test]
fn recipients_come_from_the_list_and_the_file_each_once() {
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAkDdCxOzUvoBgsvEPbzuMVojDBASu5LOm9oEmT9By9m";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        format!("# two\r\n\r\n{ssh} alice@host\r\n{SAMPLE_RECIPIENT}"),
    )
    .unwrap();
    let drop_in = format!(
        "[encryption]\nrecipients = ['{SAMPLE_RECIPIENT}', '{SAMPLE_RECIPIENT}']\nrecipients_file = {:?}",
        file.path()
    );
    let config = valid(&[LEAST, &drop_in]);
    let recipients: Vec<String> = config.encryption.recipients.iter().map(ToString::to_string).collect();
    assert_eq!(recipients, [SAMPLE_RECIPIENT, ssh]);
}

#[test]
fn a_recipient_with_a_wrong_character_is_told_from_something_else() {
    let key = "age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m";
    for mistyped in [key.replace("f00m", "f00n"), key.replace("f00m", "f0")] {
        let told = problems(&format!("encryption.recipients = ['{mistyped}']"));
        let says = "`age1psjnez3xz37g` is not a whole age recipient: a character is mistyped, missing or too many; copy it anew";
        assert!(told.contains(says), "{told}");
    }
    let told = problems("encryption.recipients = ['age1nonsense']");
    assert!(told.contains("is not an age recipient"), "{told}");
}

#[test]
fn a_fault_in_the_recipients_file_is_shown_there() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let shown = file.path().display();
    let drop_in = format!("encryption.recipients_file = {:?}", file.path());
    std::fs::write(file.path(), "# mine\n age1nonsense\n").unwrap();
    assert_eq!(
        problems(&drop_in),
        format!(
            "{shown}:2:1: `line 2`: `age1nonsense` is not an age recipient (age1…) or an SSH public key (ssh-ed25519 …, ssh-rsa …)\n  |\n2 |  age1nonsense\n  | ^^^^^^^^^^^^^"
        )
    );
    std::fs::write(file.path(), "# nothing\n").unwrap();
    let message = format!("`encryption.recipients_file`: {shown} holds no recipient");
    assert!(problems(&drop_in).contains(&message));
    drop(file);
    assert!(problems(&drop_in).contains("No such file or directory (os error 2)"));
}

#[test]
fn more_recipients_than_a_backup_can_name_are_refused() {
    let keys = |count: usize| {
        let keys = (0..count).map(|_| format!("'{}'", age::x25519::Identity::generate().to_public()));
        format!("encryption.recipients = [{}]", keys.collect::<Vec<_>>().join(","))
    };
    assert_eq!(valid(&[LEAST, &keys(200)]).encryption.recipients.len(), 200);
    let refused = problems(&keys(201));
    assert!(refused.contains("201 recipients are more than the 200"), "{refused}");
}

#[test]
fn recipients_whose_keys_are_too_long_together_are_refused() {
    // As an RSA key of 4096 bits is: 512 bytes of modulus.
    let blob = |n: u8| {
        let mut blob = Vec::new();
        for part in [
            &b"ssh-rsa"[..],
            &[1, 0, 1],
            &[&[0, 0x80 | n][..], &[0xab; 511]].concat(),
        ] {
            blob.extend((part.len() as u32).to_be_bytes());
            blob.extend(part);
        }
        format!("'ssh-rsa {}'", base64(&blob))
    };
    let keys = |count: u8| {
        let keys = (0..count).map(blob);
        format!("encryption.recipients = [{}]", keys.collect::<Vec<_>>().join(","))
    };
    assert_eq!(valid(&[LEAST, &keys(60)]).encryption.recipients.len(), 60);
    let refused = problems(&keys(100));
    assert!(refused.contains("are too long together"), "{refused}");
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() {
                char::from(DIGITS[index as usize])
            } else {
                '='
            });
        }
    }
    text
}
