//! The configuration as a person meets it: files in directories, and every refusal to the letter.

use std::fs;
use std::path::{Path, PathBuf};

use lifeboat::config::{Config, Error, load};

/// The least that is valid.
const LEAST: &str = r#"[cluster]
name = "prod"

[members.m1]
client_urls = ["http://127.0.0.1:2379"]

[encryption]
recipients = ["age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m"]

[destinations.local]
url = "file:///var/backups/lifeboat"
"#;

/// A directory with a configuration `config.toml` in it.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Directory(tempfile::tempdir().expect("a directory"))
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let directory = Directory::new();
        for (name, content) in files {
            directory.write(name, content.as_bytes());
        }
        directory
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in the directory")).expect("created");
        fs::write(path, content).expect("written");
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn config(&self) -> Config {
        load(&self.main()).unwrap_or_else(|error| panic!("{error}")).config
    }

    /// What a person sees, with the directory left out.
    fn error(&self) -> String {
        let error = load(&self.main()).expect_err("it is wrong");
        let directory = format!("{}/", self.0.path().display());
        error.to_string().replace(&directory, "")
    }

    fn files(&self) -> Vec<PathBuf> {
        let loaded = load(&self.main()).unwrap_or_else(|error| panic!("{error}"));
        let relative = |path: &PathBuf| path.strip_prefix(self.0.path()).map(Path::to_owned);
        loaded
            .files
            .iter()
            .map(relative)
            .collect::<Result<_, _>>()
            .expect("all are in it")
    }
}

/// The refusal of `LEAST` with `drop_in` beside it, without the line that counts.
fn refusal(drop_in: &str) -> String {
    let directory = Directory::with(&[("config.toml", LEAST), ("config.d/a.toml", drop_in)]);
    let error = directory.error();
    let (count, problems) = error.split_once('\n').expect("a count and the problems");
    assert!(count.starts_with("the configuration is invalid: "), "{count}");
    problems.to_owned()
}

#[test]
fn drop_ins_are_read_in_the_order_of_their_names() {
    let directory = Directory::with(&[
        ("config.toml", LEAST),
        ("config.d/10-b.toml", "compression.level = 10"),
        ("config.d/9-a.toml", "compression.level = 9"),
        ("config.d/.hidden.toml", "compression.level = 1"),
        ("config.d/90-z.conf", "compression.level = 2"),
        ("other.d/99-z.toml", "compression.level = 4"),
    ]);
    assert_eq!(directory.config().compression.level, 9);
    let expected = ["config.toml", "config.d/10-b.toml", "config.d/9-a.toml"];
    assert_eq!(directory.files(), expected.map(PathBuf::from));
}

#[test]
fn drop_ins_alone_suffice() {
    let directory = Directory::with(&[("config.d/a.toml", LEAST)]);
    assert_eq!(directory.config().cluster.name.as_str(), "prod");
}

#[test]
fn a_file_of_another_name_has_no_drop_ins() {
    let directory = Directory::with(&[("lifeboat.conf", LEAST), ("lifeboat.d/a.toml", "nonsense")]);
    let loaded = load(&directory.0.path().join("lifeboat.conf")).expect("it is valid");
    assert_eq!(loaded.files.len(), 1);
}

#[test]
fn no_configuration_at_all_says_what_to_do() {
    let directory = Directory::new();
    fs::create_dir(directory.0.path().join("config.d")).expect("created");
    let error = load(&directory.main()).expect_err("there is none");
    assert!(matches!(&error, Error::Missing { path } if *path == directory.main()));
    let main = directory.main();
    assert_eq!(
        error.to_string(),
        format!("there is no configuration: {} does not exist", main.display())
    );
    assert_eq!(
        error.next_step(),
        format!(
            "copy config.example.toml there and adapt it (or parts of it into {}/*.toml), or name another file with `--config FILE`",
            main.with_extension("d").display()
        )
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = Directory::new();
    fs::create_dir(directory.main()).expect("created");
    assert_eq!(
        directory.error(),
        "read configuration config.toml: it is a folder, not a plain file"
    );

    let directory = Directory::with(&[("config.toml", LEAST), ("config.d", "a file")]);
    assert_eq!(
        directory.error(),
        "read configuration config.d: Not a directory (os error 20)"
    );

    let directory = Directory::new();
    directory.write("config.toml", &vec![b'#'; (1 << 20) + 1]);
    assert_eq!(directory.error(), "read configuration config.toml: larger than 1 MiB");

    let directory = Directory::new();
    directory.write("config.toml", b"[cluster]\nname = \"\xff\"\n");
    assert_eq!(
        directory.error(),
        "the configuration is invalid: 1 problem\nconfig.toml:2:9: not valid TOML: this is not UTF-8 text\n  |\n2 | name = \" …\n  |         ^"
    );
}

#[test]
fn all_problems_of_all_files_come_at_once_in_their_order() {
    let directory = Directory::with(&[
        (
            "config.toml",
            "[cluster]\nnam = \"prod\"\n\n[log]\nlevel = \"x\"\n\n[compression]\nlevel = 25\n",
        ),
        (
            "config.d/50-host.toml",
            "[members.m1]\nclient_urls = [\"127.0.0.1:2379\"]\n[backup]\nidle_timeout = 30\n",
        ),
    ]);
    assert_eq!(
        directory.error(),
        r#"the configuration is invalid: 7 problems
config.toml:1:2: `cluster.name` is missing: a name, such as "prod"
  |
1 | [cluster]
  |  ^^^^^^^
config.toml:2:1: unknown key `cluster.nam`; did you mean `cluster.name`?
  |
2 | nam …
  | ^^^
config.toml:4:2: `[log]` is known only to later versions of lifeboat
  |
4 | [log]
  |  ^^^
config.toml:8:9: `compression.level`: 25 is not a whole number from 1 to 19
  |
8 | level = 25
  |         ^^
config.d/50-host.toml:2:16: `members.m1.client_urls[0]`: `127.0.0.1:2379` is not a member's URL: it starts with neither `http://` nor `https://`; expected one such as `https://10.0.0.1:2379`
  |
2 | client_urls = ["127.0.0.1:2379"]
  |                ^^^^^^^^^^^^^^^^
config.d/50-host.toml:4:16: `backup.idle_timeout`: 30 is not a duration with a unit, from "1s" to "1h"; write "30s" for seconds
  |
4 | idle_timeout = 30
  |                ^^
`encryption.recipients` is missing: a list of recipients ("age1…", "ssh-ed25519 …" or "ssh-rsa …")"#
    );
}

#[test]
fn a_file_that_is_not_toml_hides_nothing_of_the_others() {
    let directory = Directory::with(&[
        ("config.toml", "[cluster\nname = \"prod\"\n"),
        ("config.d/a.toml", "[backup]\nhashkv = \"never\"\n"),
        ("config.d/b.toml", "compression.level = 3 4\n"),
    ]);
    assert_eq!(
        directory.error(),
        r#"the configuration is invalid: 3 problems
config.toml:1:9: not valid TOML: unclosed table, expected `]`
  |
1 | [cluster
  |         ^
config.d/a.toml:2:1: unknown key `backup.hashkv`; did you mean `backup.hash_kv`?
  |
2 | hashkv …
  | ^^^^^^
config.d/b.toml:1:21: not valid TOML: string values must be quoted, expected literal string
  |
1 | compression.level = 3 4
  |                     ^^^"#
    );
}

#[test]
fn every_refusal_names_file_line_key_value_and_what_was_expected() {
    for (drop_in, expected) in [
        (
            r#"[compresion]
level = 3"#,
            r#"config.d/a.toml:1:2: unknown key `compresion`; did you mean `compression`?
  |
1 | [compresion]
  |  ^^^^^^^^^^"#,
        ),
        (
            r#"[encryption]
recipient = ["age1x"]"#,
            r#"config.d/a.toml:2:1: unknown key `encryption.recipient`; did you mean `encryption.recipients`?
  |
2 | recipient …
  | ^^^^^^^^^"#,
        ),
        (
            r#"[members.m1]
clients = ["http://h:1"]"#,
            r#"config.d/a.toml:2:1: unknown key `members.m1.clients`; known in `[members.m1]`: client_urls, peer_urls, enabled
  |
2 | clients …
  | ^^^^^^^"#,
        ),
        (
            r#"recipients = ["age1x"]"#,
            r#"config.d/a.toml:1:1: unknown key `recipients`; did you mean `encryption.recipients`?
  |
1 | recipients …
  | ^^^^^^^^^^"#,
        ),
        (
            r#"[host]
data-dir = "/var/lib/etcd""#,
            r#"config.d/a.toml:2:1: unknown key `host.data-dir`; did you mean `host.data_dir`?
  |
2 | data-dir …
  | ^^^^^^^^"#,
        ),
        (
            r#"[members."m1.example.com"]
peer_url = "http://h:1""#,
            r#"config.d/a.toml:1:10: `members."m1.example.com".client_urls` is missing: a list of URLs, such as ["https://10.0.0.1:2379"]
  |
1 | [members."m1.example.com"]
  |          ^^^^^^^^^^^^^^^^
config.d/a.toml:2:1: unknown key `members."m1.example.com".peer_url`; did you mean `members."m1.example.com".peer_urls`?
  |
2 | peer_url …
  | ^^^^^^^^"#,
        ),
        (
            r#"[cluster]
"tls.ca" = "x""#,
            r#"config.d/a.toml:2:1: unknown key `cluster."tls.ca"`; known in `[cluster]`: name, tls, auth
  |
2 | "tls.ca" …
  | ^^^^^^^^"#,
        ),
        (
            r#"[deltas]
enabled = 1
every = "2h"
max_bytes = "1 GiB"
destinations = ["locl"]
[log]
level = "x""#,
            r#"config.d/a.toml:2:11: `deltas.enabled`: 1 is not true or false
  |
2 | enabled = 1
  |           ^
config.d/a.toml:3:9: `deltas.every`: "2h" is not a duration with a unit, from "1s" to "1h"
  |
3 | every = "2h"
  |         ^^^^
config.d/a.toml:4:13: `deltas.max_bytes`: "1 GiB" is not a size with a unit, from "64 KiB" to "64 MiB"
  |
4 | max_bytes = "1 GiB"
  |             ^^^^^^^
config.d/a.toml:5:17: `deltas.destinations[0]`: `locl` is not one of `[destinations]` that are switched on; did you mean `local`?
  |
5 | destinations = ["locl"]
  |                 ^^^^^^
config.d/a.toml:6:2: `[log]` is known only to later versions of lifeboat
  |
6 | [log]
  |  ^^^"#,
        ),
        (
            r#"[destinations.local]
object_lock = "30 days"
bandwidth = "10 MB"
shared = "yes""#,
            r#"config.d/a.toml:2:1: `destinations.local.object_lock` is of destinations in `s3:`, and this one is file:///var/backups/lifeboat: remove it, or correct `url`
  |
2 | object_lock …
  | ^^^^^^^^^^^
config.d/a.toml:3:13: `destinations.local.bandwidth`: "10 MB" is not a rate from "64 KiB/s", such as "20 MiB/s"
  |
3 | bandwidth = "10 MB"
  |             ^^^^^^^
config.d/a.toml:4:10: `destinations.local.shared`: "yes" is not true or false
  |
4 | shared = "yes"
  |          ^^^^^"#,
        ),
        (
            r#"[restore]
automatic = "never""#,
            r#"config.d/a.toml:2:1: `restore.automatic` is known only to later versions of lifeboat
  |
2 | automatic …
  | ^^^^^^^^^"#,
        ),
        (
            r#"cluster = "prod""#,
            r#"config.d/a.toml:1:1: `cluster` is a table: write `[cluster]` above its keys
  |
1 | cluster …
  | ^^^^^^^"#,
        ),
        (
            r#"[[destinations]]
url = "file:///a""#,
            r#"config.d/a.toml:1:3: `destinations` holds a table for each name: `[destinations.NAME]`, in single brackets
  |
1 | [[destinations]]
  |   ^^^^^^^^^^^^"#,
        ),
        (
            r#"[members]
client_urls = ["http://h:1"]"#,
            r#"config.d/a.toml:2:1: `members.client_urls` is not in the table of a name; write `[members.NAME]` above client_urls, peer_urls, enabled
  |
2 | client_urls …
  | ^^^^^^^^^^^"#,
        ),
        (
            r#"[cluster]
name = 7"#,
            r#"config.d/a.toml:2:8: `cluster.name`: 7 is not a name, such as "prod"
  |
2 | name = 7
  |        ^"#,
        ),
        (
            r#"[cluster]
name = "Prod West""#,
            r#"config.d/a.toml:2:8: `cluster.name`: `Prod West` is not a cluster name (a-z and 0-9, then also `.`, `_`, `-`; at most 63 characters)
  |
2 | name = "Prod West"
  |        ^^^^^^^^^^^"#,
        ),
        (
            r#"[compression]
level = "3"
threads = "many""#,
            r#"config.d/a.toml:2:9: `compression.level`: "3" is not a whole number from 1 to 19
  |
2 | level = "3"
  |         ^^^
config.d/a.toml:3:11: `compression.threads`: "many" is not "auto" or a whole number from 1 to 64
  |
3 | threads = "many"
  |           ^^^^^^"#,
        ),
        (
            r#"[compression]
level = 0
threads = 65"#,
            r#"config.d/a.toml:2:9: `compression.level`: 0 is not a whole number from 1 to 19
  |
2 | level = 0
  |         ^
config.d/a.toml:3:11: `compression.threads`: 65 is not "auto" or a whole number from 1 to 64
  |
3 | threads = 65
  |           ^^"#,
        ),
        (
            r#"[compression]
level = 99999999999999999999
threads = 2.5"#,
            r#"config.d/a.toml:2:9: `compression.level`: 99999999999999999999 is not a whole number from 1 to 19
  |
2 | level = 99999999999999999999
  |         ^^^^^^^^^^^^^^^^^^^^
config.d/a.toml:3:11: `compression.threads`: 2.5 is not "auto" or a whole number from 1 to 64
  |
3 | threads = 2.5
  |           ^^^"#,
        ),
        (
            r#"[members.m1]
enabled = "no"
client_urls = "http://h:1"
peer_urls = ["http://h:1", 3]"#,
            r#"config.d/a.toml:2:11: `members.m1.enabled`: "no" is not true or false
  |
2 | enabled = "no"
  |           ^^^^
config.d/a.toml:3:15: `members.m1.client_urls`: "http://h:1" is not a list of URLs, such as ["https://10.0.0.1:2379"]
  |
3 | client_urls = "http://h:1"
  |               ^^^^^^^^^^^^
config.d/a.toml:4:13: `members.m1.peer_urls`: a list with 3 is not a list of URLs, such as ["https://10.0.0.1:2379"]
  |
4 | peer_urls = ["http://h:1", 3]
  |             ^^^^^^^^^^^^^^^^^"#,
        ),
        (
            r#"members.m1.client_urls = []"#,
            r#"config.d/a.toml:1:26: `members.m1.client_urls` is empty: expected a list of URLs, such as ["https://10.0.0.1:2379"]
  |
1 | members.m1.client_urls = []
  |                          ^^"#,
        ),
        (
            r#"members.m2.peer_urls = ["http://h:1"]"#,
            r#"config.d/a.toml:1:9: `members.m2.client_urls` is missing: a list of URLs, such as ["https://10.0.0.1:2379"]
  |
1 | members.m2 …
  |         ^^"#,
        ),
        (
            r#"members.m1.enabled = false"#,
            r#"every member is switched off (`enabled = false`)"#,
        ),
        (
            r#"members."".client_urls = ["http://h:1"]"#,
            r#"config.d/a.toml:1:9: `members.""`: `` is not a member's name (etcd's own `--name`)
  |
1 | members."" …
  |         ^^"#,
        ),
        (
            r#"[host]
member = "m2""#,
            r#"config.d/a.toml:2:10: `host.member`: `m2` is not one of `[members]`; did you mean `m1`?
  |
2 | member = "m2"
  |          ^^^^"#,
        ),
        (
            r#"[host]
member = "etcd""#,
            r#"config.d/a.toml:2:10: `host.member`: `etcd` is not one of `[members]`
  |
2 | member = "etcd"
  |          ^^^^^^"#,
        ),
        (
            r#"[members.m2]
enabled = false
[host]
member = "m2""#,
            r#"config.d/a.toml:4:10: `host.member`: member `m2` is switched off
  |
4 | member = "m2"
  |          ^^^^"#,
        ),
        (
            r#"[backup]
member = "m11"
hash_kv = "sometimes"
idle_timeout = "30""#,
            r#"config.d/a.toml:2:10: `backup.member`: `m11` is not one of `[members]`; did you mean `m1`?
  |
2 | member = "m11"
  |          ^^^^^
config.d/a.toml:3:11: `backup.hash_kv`: "sometimes" is not "auto", "always" or "never"
  |
3 | hash_kv = "sometimes"
  |           ^^^^^^^^^^^
config.d/a.toml:4:16: `backup.idle_timeout`: "30" is not a duration with a unit, from "1s" to "1h"
  |
4 | idle_timeout = "30"
  |                ^^^^"#,
        ),
        (
            r#"[backup]
idle_timeout = "2h""#,
            r#"config.d/a.toml:2:16: `backup.idle_timeout`: "2h" is not a duration with a unit, from "1s" to "1h"
  |
2 | idle_timeout = "2h"
  |                ^^^^"#,
        ),
        (
            r#"[cluster.auth]
user = "root""#,
            r#"config.d/a.toml:2:1: `cluster.auth.user` needs `password` beside it"#,
        ),
        (
            r#"[cluster.auth]
password = "hunter2""#,
            r#"config.d/a.toml:2:1: `cluster.auth.password` needs `user` beside it
config.d/a.toml:2:12: `cluster.auth.password` is not where to find it: { file = "/path" }, { credential = "name" } or { env = "NAME" }; what stands here is not shown"#,
        ),
        (
            r#"[cluster.auth]
user = " "
password = { env = "X" }"#,
            r#"config.d/a.toml:2:8: `cluster.auth.user`: " " is not a user of etcd"#,
        ),
        (
            r#"[cluster.tls]
cert = { file = "client.crt" }"#,
            r#"config.d/a.toml:2:1: `cluster.tls.cert` needs `key` beside it
  |
2 | cert …
  | ^^^^
config.d/a.toml:2:17: `cluster.tls.cert.file` is not a path that starts with `/`"#,
        ),
        (
            r#"[cluster.tls]
cert = { file = "/client.crt" }"#,
            r#"config.d/a.toml:2:1: `cluster.tls.cert` needs `key` beside it
  |
2 | cert …
  | ^^^^"#,
        ),
        (
            r#"[cluster.tls]
ca = { file = "/a", env = "B" }"#,
            r#"config.d/a.toml:2:6: `cluster.tls.ca` takes exactly one of file, credential and env"#,
        ),
        (
            r#"[cluster.tls]
ca = { path = "/a" }"#,
            r#"config.d/a.toml:2:8: unknown key `cluster.tls.ca.path`; known here: file, credential, env"#,
        ),
        (
            r#"[cluster.tls]
ca = {}"#,
            r#"config.d/a.toml:2:6: `cluster.tls.ca` takes exactly one of file, credential and env"#,
        ),
        (
            r#"[encryption]
recipients = []"#,
            r#"config.d/a.toml:2:14: `encryption.recipients` is empty: at least one is needed; there is no unencrypted mode
  |
2 | recipients = []
  |              ^^"#,
        ),
        (
            r#"[encryption]
recipients = ["age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m", "age1typo"]"#,
            r#"config.d/a.toml:2:81: `encryption.recipients[1]`: `age1typo` is not an age recipient (age1…) or an SSH public key (ssh-ed25519 …, ssh-rsa …)
  |
2 | recipients = ["age1psjnez3xz37gpj0k3lakc3q4dmsj3yj4ukahv6clwmk2an794p0sjsf00m", "age1typo"]
  |                                                                                 ^^^^^^^^^^"#,
        ),
        (
            r#"[encryption]
recipients = ["AGE-SECRET-KEY-1QQQ"]"#,
            r#"config.d/a.toml:2:15: `encryption.recipients[0]`: this is an identity (a secret key), not a recipient; give its public key, and treat the identity as exposed"#,
        ),
        (
            r#"[encryption]
recipients_file = "recipients.txt""#,
            r#"config.d/a.toml:2:19: `encryption.recipients_file`: "recipients.txt" is not a path that starts with `/`
  |
2 | recipients_file = "recipients.txt"
  |                   ^^^^^^^^^^^^^^^^"#,
        ),
        (
            r#"[encryption]
recipients_file = "/nonexistent/recipients.txt""#,
            r#"config.d/a.toml:2:19: `encryption.recipients_file`: read /nonexistent/recipients.txt: No such file or directory (os error 2)
  |
2 | recipients_file = "/nonexistent/recipients.txt"
  |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#,
        ),
        (
            r#"[destinations.far]
url = "sftp://host/folder""#,
            r#"config.d/a.toml:2:7: `destinations.far.url`: `sftp://host/folder` is not a store's URL: it names no user (`sftp://USER@HOST/PATH`); expected one such as `file:///var/backups/lifeboat` or `s3://bucket/prefix`
  |
2 | url = "sftp://host/folder"
  |       ^^^^^^^^^^^^^^^^^^^^"#,
        ),
        (
            r#"[destinations.local]
endpoint = "https://s3.example.com""#,
            r#"config.d/a.toml:2:1: `destinations.local.endpoint` is of destinations in `s3:`, `gs:`, `azblob:`, `oss:`, `swift:`, and this one is file:///var/backups/lifeboat: remove it, or correct `url`
  |
2 | endpoint …
  | ^^^^^^^^"#,
        ),
        (
            r#"[destinations.copy]
url = "file:///var/backups/lifeboat""#,
            r#"config.toml:11:7: `destinations.local.url`: file:///var/backups/lifeboat is that of `destinations.copy` (config.d/a.toml:2) already
   |
11 | url = "file:///var/backups/lifeboat"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#,
        ),
        (
            r#"[destinations.Local]
url = "file:///srv""#,
            r#"config.d/a.toml:1:15: `destinations.Local`: `Local` is not a destination's name (a-z and 0-9, then also `.`, `_`, `-`; at most 63 characters)
  |
1 | [destinations.Local]
  |               ^^^^^"#,
        ),
        (
            r#"[destinations.other]"#,
            r#"config.d/a.toml:1:15: `destinations.other.url` is missing: a URL, such as "file:///var/backups/lifeboat" or "s3://bucket/prefix"
  |
1 | [destinations.other]
  |               ^^^^^"#,
        ),
        (
            r#"[destinations.other]
url = "/srv""#,
            r#"config.d/a.toml:2:7: `destinations.other.url`: `/srv` is not a store's URL: it has no scheme; expected one such as `file:///var/backups/lifeboat` or `s3://bucket/prefix`
  |
2 | url = "/srv"
  |       ^^^^^^"#,
        ),
        (
            r#"[compression]
level = 3
level = 4"#,
            r#"config.d/a.toml:3:1: not valid TOML: duplicate key
  |
3 | level …
  | ^^^^^"#,
        ),
        (
            r#"[compression]
level = 
threads = "#,
            r#"config.d/a.toml:2:9: not valid TOML: string values must be quoted, expected literal string
  |
2 | level =
  |         ^
config.d/a.toml:3:11: not valid TOML: string values must be quoted, expected literal string
  |
3 | threads =
  |           ^"#,
        ),
        (
            r#"x = 1979-05-27
compression.level = 1979-05-27"#,
            r#"config.d/a.toml:1:1: unknown key `x`; known at the top: cluster, members, host, encryption, signing, compression, backup, deltas, restore, schedules, destinations, notify, metrics
  |
1 | x …
  | ^
config.d/a.toml:2:21: `compression.level`: 1979-05-27 is not a whole number from 1 to 19
  |
2 | compression.level = 1979-05-27
  |                     ^^^^^^^^^^"#,
        ),
        (
            r#"backup.hash_kv = "\u001b[2J""#,
            r#"config.d/a.toml:1:18: `backup.hash_kv`: "\u{1b}[2J" is not "auto", "always" or "never"
  |
1 | backup.hash_kv = "\u001b[2J"
  |                  ^^^^^^^^^^^"#,
        ),
        (
            r#"[members.m1]
client_urls = [
  "http://a:1",
  "http://a",
]"#,
            r#"config.d/a.toml:4:3: `members.m1.client_urls[1]`: `http://a` is not a member's URL: it has no port; expected one such as `https://10.0.0.1:2379`
  |
4 |   "http://a",
  |   ^^^^^^^^^^"#,
        ),
    ] {
        assert_eq!(refusal(drop_in), expected, "{drop_in}");
    }
}
