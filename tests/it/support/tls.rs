//! A certificate authority for one test: server and client certificates as PEM files.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// Where the files of a test's certificates lie.
#[derive(Debug, Clone)]
pub struct Tls {
    pub ca: PathBuf,
    pub server_cert: PathBuf,
    pub server_key: PathBuf,
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
}

impl Tls {
    /// Makes an authority and certificates for 127.0.0.1 and `localhost` in `dir`.
    pub fn generate(dir: &Path) -> Tls {
        Tls::generate_for(dir, &["127.0.0.1".to_owned(), "localhost".to_owned()])
    }

    /// The same, for servers of these names and addresses.
    pub fn generate_for(dir: &Path, names: &[String]) -> Tls {
        fs::create_dir_all(dir).expect("the test's directory can be written");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("keys can be generated");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority can be signed");
        let ca = write(dir, "ca.pem", &authority.pem());
        let (server_cert, server_key) = issue(dir, "server", names, &authority);
        let (client_cert, client_key) = issue(dir, "client", &[], &authority);
        Tls {
            ca,
            server_cert,
            server_key,
            client_cert,
            client_key,
        }
    }
}

/// Signs a certificate for `names`; etcd's own gateway uses the server's as a client, so each serves both ways.
fn issue(dir: &Path, subject: &str, names: &[String], authority: &CertifiedIssuer<'_, KeyPair>) -> (PathBuf, PathBuf) {
    let mut params = CertificateParams::new(names).expect("the names are valid");
    params.distinguished_name.push(rcgen::DnType::CommonName, subject);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("keys can be generated");
    let certificate = params.signed_by(&key, authority).expect("the authority can sign");
    (
        write(dir, &format!("{subject}.pem"), &certificate.pem()),
        write(dir, &format!("{subject}-key.pem"), &key.serialize_pem()),
    )
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).expect("the test's directory can be written");
    path
}
