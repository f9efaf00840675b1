//! Ways to spell one and the same settings of etcd, as people have them: in units, environment files and YAML files.
//!
//! A table and nothing else: unit tests hold the reader of settings to it, and the lab restores each on a booted systemd.

/// What each of them says.
pub const NAME: &str = "m1";
pub const DATA_DIR: &str = "/var/lib/etcd/default";
pub const CLIENT_URL: &str = "http://127.0.0.1:2379";
pub const PEER_URL: &str = "http://127.0.0.1:2380";

const YAML: &str = "/etc/etcd/etcd.yml";
const FILE: &str = "/etc/default/etcd";

/// One way to spell them.
#[derive(Debug, Clone)]
pub struct Spelling {
    pub name: String,
    /// The text after `ExecStart=`.
    pub exec_start: String,
    /// Further lines of `[Service]`.
    pub lines: Vec<String>,
    /// The files that they name.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Whether etcd takes everything from its environment, so that cluster flags are laid on.
    pub is_environment: bool,
    /// Whether the URLs are left to etcd's defaults.
    pub has_default_urls: bool,
}

impl Spelling {
    fn new(name: &str, exec_start: impl Into<String>) -> Spelling {
        Spelling {
            name: name.to_owned(),
            exec_start: exec_start.into(),
            lines: Vec::new(),
            files: Vec::new(),
            is_environment: false,
            has_default_urls: false,
        }
    }

    fn line(mut self, line: impl Into<String>) -> Spelling {
        self.lines.push(line.into());
        self
    }

    fn file(mut self, path: &'static str, content: impl Into<Vec<u8>>) -> Spelling {
        self.files.push((path, content.into()));
        self
    }

    fn environment_file(self, content: impl Into<Vec<u8>>) -> Spelling {
        self.line(format!("EnvironmentFile={FILE}")).file(FILE, content)
    }

    fn laid(mut self) -> Spelling {
        self.is_environment = true;
        self
    }

    /// The whole unit.
    pub fn unit(&self) -> String {
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        format!(
            "[Unit]\nDescription=etcd\n[Service]\nType=notify\nUser=etcd\n{lines}ExecStart={}\nTimeoutStartSec=60\n",
            self.exec_start
        )
    }
}

fn settings() -> [(&'static str, String); 7] {
    [
        ("name", NAME.to_owned()),
        ("data-dir", DATA_DIR.to_owned()),
        ("listen-client-urls", CLIENT_URL.to_owned()),
        ("advertise-client-urls", CLIENT_URL.to_owned()),
        ("listen-peer-urls", PEER_URL.to_owned()),
        ("initial-advertise-peer-urls", PEER_URL.to_owned()),
        ("initial-cluster", format!("{NAME}={PEER_URL}")),
    ]
}

/// The settings, each by `write`, but for those that are named.
fn but(left_out: &[&str], write: impl Fn(&str, &str) -> String) -> String {
    let settings = settings();
    let kept = settings.iter().filter(|(key, _)| !left_out.contains(key));
    kept.map(|(key, value)| write(key, value)).collect()
}

fn all(write: impl Fn(&str, &str) -> String) -> String {
    but(&[], write)
}

fn flags() -> String {
    all(|key, value| format!(" --{key} {value}"))
}

fn variable(key: &str) -> String {
    format!("ETCD_{}", key.to_uppercase().replace('-', "_"))
}

fn environment() -> String {
    all(|key, value| format!("{}={value}\n", variable(key)))
}

fn yaml() -> String {
    all(|key, value| format!("{key}: {value}\n"))
}

/// All of them.
pub fn spellings() -> Vec<Spelling> {
    let mut found = in_flags();
    found.extend(in_shells());
    found.extend(in_environments());
    found.extend(mixed());
    found.extend(in_yaml());
    found
}

fn in_flags() -> Vec<Spelling> {
    let etcd = |words: String| format!("/usr/bin/etcd{words}");
    let plain = |name: &str, words: String| Spelling::new(name, etcd(words));
    let defaults = Spelling {
        has_default_urls: true,
        ..plain(
            "name and data directory only",
            format!(" --name {NAME} --data-dir {DATA_DIR}"),
        )
    };
    vec![
        plain("two dashes and a blank", flags()),
        plain("two dashes and a sign", all(|key, value| format!(" --{key}={value}"))),
        plain("one dash and a blank", all(|key, value| format!(" -{key} {value}"))),
        plain("one dash and a sign", all(|key, value| format!(" -{key}={value}"))),
        plain("values in quotes", all(|key, value| format!(" --{key}=\"{value}\""))),
        plain("words in quotes", all(|key, value| format!(" '--{key}={value}'"))),
        plain(
            "a line for each",
            all(|key, value| format!(" \\\n    --{key} \"{value}\"")),
        ),
        plain("a flag twice", format!(" --name other --data-dir=/nowhere{}", flags())),
        plain(
            "flags of other things between",
            format!(
                " --auto-compaction-retention 1 --enable-pprof -heartbeat-interval=200{} --client-cert-auth=false",
                flags()
            ),
        ),
        plain(
            "token and state too",
            format!("{} --initial-cluster-token t0 --initial-cluster-state new", flags()),
        ),
        plain(
            "state existing",
            format!("{} --initial-cluster-state=existing", flags()),
        ),
        plain("two dashes at the end", format!("{} --", flags())),
        defaults,
        plain(
            "values by variables",
            all(|key, _| format!(" --{key}=${{{}}}", key.to_uppercase().replace('-', "_"))),
        )
        .line(
            all(|key, value| format!(" \"{}={value}\"", key.to_uppercase().replace('-', "_"))).replacen(
                ' ',
                "Environment=",
                1,
            ),
        ),
        plain("all flags in one variable", " $ETCD_OPTS".to_owned())
            .environment_file(format!("ETCD_OPTS='{} -heartbeat-interval=200'\n", flags())),
        plain("flags in two variables of the unit", " $MORE $OPTS".to_owned())
            .line(format!("Environment=\"OPTS={}\" MORE=--enable-pprof", flags())),
        Spelling::new("a name of its own", format!("@/usr/bin/etcd etcd-m1{}", flags())),
        Spelling::new("variables left alone", format!(":/usr/bin/etcd{}", flags())),
        Spelling::new("failure ignored", format!("-/usr/bin/etcd{}", flags())),
        Spelling::new("through nice", format!("/usr/bin/nice -n 5 /usr/bin/etcd{}", flags())),
        Spelling::new(
            "through env",
            format!("/usr/bin/env GOMAXPROCS=2 /usr/bin/etcd{}", flags()),
        ),
        plain("several commands around it", flags())
            .line("ExecStartPre=/bin/true")
            .line("ExecStartPre=-/bin/false")
            .line("ExecStartPost=/bin/true"),
        plain(
            "a specifier",
            but(&["data-dir"], |key, value| format!(" --{key} {value}")) + " --data-dir %S/etcd/default",
        ),
        plain(
            "a relative data directory",
            but(&["data-dir"], |key, value| format!(" --{key} {value}")) + " --data-dir=./default",
        )
        .line("WorkingDirectory=/var/lib/etcd"),
    ]
}

fn in_shells() -> Vec<Spelling> {
    let flags = flags();
    let given = but(&["name", "data-dir"], |key, value| format!(" --{key} {value}"));
    vec![
        Spelling::new("Fedora's shell", r#"/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd""#)
            .environment_file(environment())
            .laid(),
        Spelling::new(
            "Red Hat's old shell",
            format!(r#"/bin/bash -c "GOMAXPROCS=$(nproc) /usr/bin/etcd --name=\"${{NODE}}\" --data-dir=\"${{DATA}}\"{given}""#),
        )
        .environment_file(format!("NODE={NAME}\nDATA={DATA_DIR}\n")),
        Spelling::new("exec", format!("/bin/sh -c 'exec /usr/bin/etcd{flags}'")),
        Spelling::new("sent to a file", format!("/bin/sh -c 'exec etcd{flags} >>/dev/null 2>&1'")),
        Spelling::new("a limit first", format!("/bin/bash -c 'ulimit -c 0; umask 077 && exec /usr/bin/etcd{flags}'")),
        Spelling::new("a folder first", format!("/bin/sh -ec 'mkdir -p {DATA_DIR}; cd /var/lib/etcd; exec etcd --name {NAME} --data-dir default{given}'")),
        Spelling::new("words behind the script", format!("/bin/sh -c 'exec /usr/bin/etcd \"$@\"' etcd{flags}")),
        Spelling::new("exported", format!("/bin/sh -c 'export ETCD_NAME={NAME} ETCD_DATA_DIR={DATA_DIR}; exec etcd{given}'")),
        Spelling::new("a value for want of one", format!("/bin/sh -c 'exec etcd --name $${{NODE:-{NAME}}} --data-dir \"$${{DATA:-{DATA_DIR}}}\"{given}'")),
        Spelling::new(
            "the output of a command where it is not needed",
            format!(
                "/bin/sh -c 'exec etcd --log-level $(echo info){} --initial-cluster m1=http://$(echo 127.0.0.1):2380'",
                but(&["initial-cluster"], |key, value| format!(" --{key} {value}"))
            ),
        ),
        Spelling::new("quoted through and through", format!("/bin/sh -c \"exec '/usr/bin/etcd' {}\"", all(|key, value| format!(" \\\"--{key}={value}\\\"")))),
    ]
}

fn in_environments() -> Vec<Spelling> {
    let etcd = |name: &str| Spelling::new(name, "/usr/bin/etcd");
    let text = environment();
    let quoted = |quote: &str| all(|key, value| format!("{}={quote}{value}{quote}\n", variable(key)));
    let half = |from: usize, to: usize| -> String {
        let lines: Vec<&str> = text.lines().collect();
        lines[from..to].iter().map(|line| format!("{line}\n")).collect()
    };
    vec![
        etcd("variables").environment_file(text.clone()).laid(),
        etcd("variables in double quotes").environment_file(quoted("\"")).laid(),
        etcd("variables in single quotes").environment_file(quoted("'")).laid(),
        etcd("CRLF, comments, export")
            .environment_file(format!("export ETCD_DEBUG=x\n# c\n; d\n{}\n", text).replace('\n', "\r\n"))
            .laid(),
        etcd("blanks around")
            .environment_file(all(|key, value| format!("  {} =  {value} \t\n", variable(key))))
            .laid(),
        etcd("lines that go on")
            .environment_file(all(|key, value| format!("{}=\\\n{value}\n", variable(key))))
            .laid(),
        etcd("no line break at the end")
            .environment_file(text.trim_end())
            .laid(),
        etcd("comments in an old encoding")
            .environment_file([b"# f\xfcr alle \\\n# mehr\n".as_slice(), text.as_bytes()].concat())
            .laid(),
        etcd("a variable twice")
            .environment_file(format!("ETCD_NAME=other\n{text}"))
            .laid(),
        etcd("an empty variable")
            .environment_file(format!("{text}ETCD_WAL_DIR=\nETCD_DISCOVERY=\"\"\n"))
            .laid(),
        etcd("two files, the second wins")
            .line("EnvironmentFile=/etc/etcd/first.env")
            .file("/etc/etcd/first.env", format!("{}ETCD_NAME=other\n", half(0, 3)))
            .environment_file(format!("ETCD_NAME={NAME}\n{}", half(1, 7)))
            .laid(),
        etcd("a file that may be missing")
            .line("EnvironmentFile=-/etc/etcd/none.env")
            .environment_file(text.clone())
            .laid(),
        etcd("in the unit")
            .line(all(|key, value| format!("Environment={}={value}\n", variable(key))).trim_end())
            .laid(),
        etcd("in the unit, one line")
            .line(all(|key, value| format!(" \"{}={value}\"", variable(key))).replacen(' ', "Environment=", 1))
            .laid(),
        etcd("a file over the unit")
            .line("Environment=ETCD_NAME=other ETCD_LOGGER=zap")
            .environment_file(text.clone())
            .laid(),
        etcd("something taken away")
            .line("UnsetEnvironment=ETCD_FORCE_NEW_CLUSTER")
            .environment_file(format!("{text}ETCD_FORCE_NEW_CLUSTER=true\n"))
            .laid(),
        Spelling::new("Debian's", "/usr/bin/etcd $DAEMON_ARGS")
            .line("EnvironmentFile=-/etc/default/%p")
            .file(FILE, format!("{text}DAEMON_ARGS=\"\"\n"))
            .laid(),
    ]
}

fn mixed() -> Vec<Spelling> {
    let text = environment();
    let without = |keys: &[&str]| but(keys, |key, value| format!("{}={value}\n", variable(key)));
    vec![
        Spelling::new(
            "name and data by flags",
            format!("/usr/bin/etcd --name {NAME} --data-dir {DATA_DIR}"),
        )
        .environment_file(without(&["name", "data-dir"])),
        Spelling::new("the token by a flag", "/usr/bin/etcd --initial-cluster-token t0").environment_file(text.clone()),
        Spelling::new("the state in Debian's arguments", "/usr/bin/etcd $DAEMON_ARGS")
            .environment_file(format!("{text}DAEMON_ARGS=\"--initial-cluster-state new\"\n")),
        Spelling::new("the data by a flag", format!("/usr/bin/etcd --data-dir {DATA_DIR}"))
            .environment_file(without(&["data-dir"]))
            .laid(),
        Spelling::new("flags of other things", "/usr/bin/etcd --log-level info --enable-pprof")
            .environment_file(text)
            .laid(),
    ]
}

fn in_yaml() -> Vec<Spelling> {
    let etcd = |name: &str| Spelling::new(name, format!("/usr/bin/etcd --config-file={YAML}"));
    let file = |name: &str, text: String| etcd(&format!("YAML, {name}")).file(YAML, text);
    let text = yaml();
    let object = |between: &str| {
        let pairs: Vec<String> = settings()
            .iter()
            .map(|(key, value)| format!("\"{key}\":{between}\"{value}\""))
            .collect();
        pairs
    };
    let wide: Vec<u8> = format!("\u{feff}{text}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let sample = format!(
        "# This is the configuration file for the etcd server.\n\n{text}wal-dir:\nsnapshot-count: 10000\nquota-backend-bytes: 0\n\
         discovery:\ndiscovery-srv:\ninitial-cluster-token: 'etcd-cluster'\nclient-transport-security:\n  cert-file:\n  \
         client-cert-auth: false\npeer-transport-security:\n  cert-file:\nlog-outputs: [stderr]\nforce-new-cluster: false\n\
         auto-compaction-mode: periodic\nauto-compaction-retention: \"1\"\n"
    );
    vec![
        file("plain", text.clone()),
        file("as etcd's sample", sample),
        file("single quotes", all(|key, value| format!("{key}: '{value}'\n"))),
        file(
            "double quotes",
            all(|key, value| format!("{key}: \"{value}\" # {key}\n")),
        ),
        file("keys in quotes", all(|key, value| format!("\"{key}\": {value}\n"))),
        file(
            "keys in capitals",
            all(|key, value| format!("{}: {value}\n", key.to_uppercase())),
        ),
        file("indented", all(|key, value| format!("   {key}: {value}\n"))),
        file("JSON", format!("{{\n  {}\n}}\n", object(" ").join(",\n  "))),
        file("JSON on one line", format!("{{{}}}", object("").join(","))),
        file(
            "braces without quotes",
            format!("{{{}}}\n", all(|key, value| format!("{key}: {value}, "))),
        ),
        file("CRLF", text.replace('\n', "\r\n")),
        file("a byte order mark", format!("\u{feff}{text}")),
        file(
            "a byte order mark, marks and CRLF",
            format!("\u{feff}---\n{text}...\n").replace('\n', "\r\n"),
        ),
        etcd("YAML, two bytes a sign").file(YAML, wide),
        file("a mark at the beginning", format!("---\n# by ansible\n{text}")),
        file("marks at both ends", format!("---\n{text}...\n")),
        file(
            "two documents",
            format!("---\n{text}---\nname: other\ndata-dir: /nowhere\n"),
        ),
        file("a directive", format!("%YAML 1.1\n---\n{text}")),
        file(
            "a key twice",
            format!("name: other\nheartbeat-interval: 100\n{text}heartbeat-interval: 200\n"),
        ),
        file(
            "an anchor",
            text.replacen(
                &format!("listen-client-urls: {CLIENT_URL}\nadvertise-client-urls: {CLIENT_URL}"),
                &format!("listen-client-urls: &c {CLIENT_URL}\nadvertise-client-urls: *c"),
                1,
            ),
        ),
        file(
            "a merged table",
            format!(
                "x-base: &base\n  name: other\n  data-dir: {DATA_DIR}\n<<: *base\n{}",
                but(&["data-dir"], |key, value| format!("{key}: {value}\n"))
            ),
        ),
        file("folded", all(|key, value| format!("{key}: >-\n  {value}\n"))),
        file("literal", all(|key, value| format!("{key}: |-\n    {value}\n"))),
        file("on the next line", all(|key, value| format!("{key}:\n  {value}\n"))),
        file("tagged", all(|key, value| format!("{key}: !!str {value}\n"))),
        file(
            "keys with a question mark",
            all(|key, value| format!("? {key}\n: {value}\n")),
        ),
        file(
            "blanks and tabs behind",
            all(|key, value| format!("{key}:  {value}  \t\n")),
        ),
        file("no line break at the end", text.trim_end().to_owned()),
        file("state existing", format!("{text}initial-cluster-state: existing\n")),
        file(
            "keys that etcd does not know",
            format!("{text}x-mine: {{a: [1, 2]}}\nnotes: |\n  name: other\n"),
        ),
        Spelling::new(
            "YAML and flags that are ignored",
            format!("/usr/bin/etcd --config-file {YAML} --name other --data-dir /nowhere"),
        )
        .file(YAML, text.clone()),
        Spelling::new("YAML by a variable", "/usr/bin/etcd")
            .line(format!("Environment=ETCD_CONFIG_FILE={YAML}"))
            .file(YAML, text.clone()),
        Spelling::new(
            "YAML and an environment file",
            format!("/usr/bin/etcd --config-file={YAML}"),
        )
        .environment_file("ETCD_NAME=other\nETCD_DATA_DIR=/nowhere\n")
        .file(YAML, text.clone()),
        Spelling::new("YAML by a relative path", "/usr/bin/etcd --config-file etcd.yml")
            .line("WorkingDirectory=/etc/etcd")
            .file(YAML, text.clone()),
        Spelling::new(
            "YAML through a shell",
            format!("/bin/sh -c 'exec etcd --config-file={YAML}'"),
        )
        .file(YAML, text),
    ]
}
