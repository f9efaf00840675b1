//! The names of the variables by which a store is reached without a configuration, where more than one place has them: a
//! recovery sheet sets them (`recovery_sheet`), and `--from` reads them (`named_store`).

/// The public key of a server that is reached by SSH.
pub const SFTP_HOST_KEY: &str = "LIFEBOAT_SFTP_HOST_KEY";
/// The file of the private key by which it lets this host in.
pub const SFTP_KEY: &str = "LIFEBOAT_SFTP_KEY";
/// What that is locked with.
pub const SFTP_PASSPHRASE: &str = "LIFEBOAT_SFTP_PASSPHRASE";
/// The password by which it lets this host in.
pub const SFTP_PASSWORD: &str = "LIFEBOAT_SFTP_PASSWORD";
/// Whether the name of a bucket stands in the path; no tool of others has a name for it.
pub const PATH_STYLE: &str = "LIFEBOAT_PATH_STYLE";
/// The certificate of the authority of OpenStack's services, as its own tools call it.
pub const SWIFT_CA: &str = "OS_CACERT";
