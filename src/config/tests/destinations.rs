//! `[destinations.NAME]`: buckets and their servers.

use super::*;

#[test]
fn what_does_not_fit_a_bucket_is_said_where_it_stands() {
    let cases = [
        (
            "url = 's3://k:s@bucket'",
            "`destinations.far.url`: a user, key or password in a URL",
        ),
        ("url = 'swift://box'", "`destinations.far.endpoint` is missing"),
        (
            "url = 's3://bucket'\nendpoint = 's3.example.com'",
            "`destinations.far.endpoint`: \"s3.example.com\" is not",
        ),
        (
            "url = 's3://bucket'\nendpoint = 'https://a?b=c'",
            "`destinations.far.endpoint`: ",
        ),
        (
            "url = 's3://bucket'\nendpoint = 'https://k:geheim@host'",
            "`destinations.far.endpoint`: a user, key",
        ),
        (
            "url = 's3://bucket'\nregion = ''",
            "`destinations.far.region`: \"\" is not a region",
        ),
        (
            "url = 's3://bucket'\nchecksum = 'sha256'",
            "`destinations.far.checksum`: \"sha256\" is not",
        ),
        (
            "url = 's3://bucket'\nconcurrency = 0",
            "0 is not a whole number from 1 to 9",
        ),
        (
            "url = 's3://bucket'\nconcurrency = 10",
            "10 is not a whole number from 1 to 9",
        ),
        (
            "url = 's3://bucket'\npart_size = '4 MiB'",
            "`destinations.far.part_size`: \"4 MiB\" is not a size",
        ),
        (
            "url = 's3://bucket'\npart_size = '19 MiB'",
            "`destinations.far.part_size`: \"19 MiB\" is not a size",
        ),
        (
            "url = 's3://bucket'\npart_size = '16 MiB'",
            "`destinations.far.part_size`: 4 parts of 16.0 MiB at once, and two that wait, take 96.0 MiB of memory",
        ),
        (
            "url = 's3://bucket'\nconcurrency = 9",
            "`destinations.far.concurrency`: 9 parts of 8.00 MiB at once, and two that wait, take 88.0 MiB of memory",
        ),
        (
            "url = 's3://bucket'\ncredentials = 'AKIA'",
            "`destinations.far.credentials` is not where to find it",
        ),
        (
            "url = 's3://bucket'\nshared = false",
            "`destinations.far.shared`: a `s3:` destination is that of all hosts",
        ),
        (
            "url = 's3://bucket'\nread_back = 'sometimes'",
            "`destinations.far.read_back`: \"sometimes\" is not \"always\" or \"never\"",
        ),
        (
            "url = 'gs://bucket'\nread_back = 'never'",
            "`destinations.far.read_back`: only of `s3:` the store's own checksum is known, and this one is gs://bucket",
        ),
        (
            "url = 'file:///srv'\nread_back = 'never'",
            "`destinations.far.read_back`: only of `s3:`",
        ),
        (
            "url = 's3://bucket'\nobject_lock = '12h'",
            "`destinations.far.object_lock`: \"12h\" is not a duration from \"1d\"",
        ),
        (
            "url = 'gs://bucket'\nobject_lock = '30d'",
            "`destinations.far.object_lock` is of destinations in `s3:`",
        ),
        (
            "url = 's3://bucket'\nbandwidth = '20MiB'",
            "`destinations.far.bandwidth`: \"20MiB\" is not a rate",
        ),
        (
            "url = 'file:///srv'\nbandwidth = '63 KiB/s'",
            "`destinations.far.bandwidth`: \"63 KiB/s\" is not a rate",
        ),
        ("url = 'oss://bucket'", "`destinations.far.endpoint` is missing"),
        ("url = 'azblob://box'", "`destinations.far.endpoint` is missing"),
        (
            "url = 'gs://bucket'\nregion = 'x'",
            "`destinations.far.region` is of destinations in `s3:`, `swift:`, and this one is gs://bucket",
        ),
        (
            "url = 'azblob://box'\npath_style = true",
            "`destinations.far.path_style` is of destinations in `s3:`, `oss:`, and this one is azblob://box",
        ),
        (
            "url = 'file:///srv'\nendpoint = 'https://a'",
            "`destinations.far.endpoint` is of destinations in `s3:`, `gs:`, `azblob:`, `oss:`, `swift:`, and this one is file:///srv",
        ),
        (
            "url = 'file:///srv'\ncredentials = { env = 'A' }",
            "`destinations.far.credentials` is of",
        ),
        ("url = 'sftp://u@h/x'", "`destinations.far.key` is missing"),
        (
            "url = 's3://bucket'\npassword = { env = 'A' }",
            "`destinations.far.password` is of destinations in `sftp:`, and this one is s3://bucket",
        ),
        (
            "url = 'sftp://u@h/x'\npassword = { env = 'A' }\nregion = 'x'",
            "`destinations.far.region` is of destinations in `s3:`, `swift:`, and this one is sftp://u@h/x",
        ),
        (
            "url = 'sftp://u@h/x'\nkey = { env = 'A' }\nhost_key = 'ssh-rsa AAAAB3NzaC1yc2E='",
            "`destinations.far.host_key`: \"ssh-rsa AAAAB3NzaC1yc2E=\" is not an ed25519 or ECDSA key",
        ),
        (
            "url = 'sftp://u@h/x'\nkey = { env = 'A' }\nhost_key = 'SHA256:abc'",
            "`destinations.far.host_key`: \"SHA256:abc\" is not an ed25519",
        ),
        (
            "url = 'sftp://u:p@h/x'\nkey = { env = 'A' }",
            "`destinations.far.url`: a user, key or password in a URL is not taken",
        ),
    ];
    for (text, said) in cases {
        let found = problems(&format!("[destinations.far]\n{text}\n"));
        assert!(found.contains(said), "{text}\n{found}");
        assert!(!found.contains("geheim") && !found.contains("AKIA"), "{found}");
    }
    valid(&[LEAST, "destinations.far = { url = 's3://bucket', concurrency = 5 }"]);
    valid(&[LEAST, "destinations.far = { url = 'oss://bucket', enabled = false }"]);
}

#[test]
fn a_bucket_is_shared_and_its_server_part_of_where_it_is() {
    let texts = "
        [destinations.a]\nurl = 's3://bucket/x'\nendpoint = 'https://one.example.com/'
        [destinations.b]\nurl = 's3://bucket/x'\nshared = true";
    let config = valid(&[LEAST, texts]);
    assert!(config.is_shared("a") && config.is_shared("b") && !config.is_shared("local"));
    let urls: Vec<String> = config.addresses().into_iter().map(|address| address.url).collect();
    let at = "s3://bucket/x at https://one.example.com";
    assert_eq!(urls, [at, "s3://bucket/x", "file:///var/backups"]);
    let twice = format!("{texts}\nendpoint = 'https://one.example.com'");
    assert!(problems(&twice).contains("s3://bucket/x is that of `destinations.a`"));
}

#[test]
fn a_server_that_proves_nothing_is_doubted_unless_it_is_here() {
    for (endpoint, is_doubted) in [
        ("http://s3.example.com", true),
        ("http://10.0.0.1:9000", true),
        ("https://s3.example.com:9000/path", false),
        ("http://127.0.0.1:9000", false),
        ("http://localhost", false),
        ("http://[::1]:9000", false),
    ] {
        let doubted = warnings(&format!(
            "destinations.far = {{ url = 's3://bucket', endpoint = '{endpoint}' }}"
        ));
        assert_eq!(doubted.contains("use `https://`"), is_doubted, "{endpoint}: {doubted}");
    }
}

#[test]
fn keys_of_a_bucket_are_secrets_without_which_the_rest_goes_on() {
    let far = "destinations.far = { url = 's3://bucket', credentials = { env = 'LIFEBOAT_NO_SUCH' }, ca = { file = '/no/ca' } }";
    let found = valid(&[LEAST, far]).check_secrets();
    let said: Vec<&str> = found
        .problems
        .iter()
        .map(|unread| unread.problem.message.as_str())
        .collect();
    assert_eq!(
        said,
        [
            "`destinations.far.ca`: read /no/ca: No such file or directory (os error 2)",
            "`destinations.far.credentials`: environment variable LIFEBOAT_NO_SUCH is not set"
        ]
    );
    assert!(found.problems.iter().all(|unread| !unread.is_needed));
}
