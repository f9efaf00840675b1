//! Which server certificates are good: those that etcdctl takes, and in plain words what is wrong with others.
//!
//! rustls judges as web browsers do. Go, and with it etcdctl, also takes a server's certificate that is itself among those
//! given as authorities, which is how people get by with a single self-signed one. That, and nothing else, is added: a
//! certificate that is the same to the byte, valid now, for servers, and for the name that is expected. Whoever shows it
//! must hold its key, as for any other.

use std::sync::Arc;

use jiff::Timestamp;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme, crypto,
};

use age::secrecy::ExposeSecret;

use super::Tls;
use super::certificate::Certificate;

/// The shortest RSA key that is taken.
const LEAST_RSA_BITS: u32 = 2048;

/// Judges the certificates of members.
#[derive(Debug)]
pub(super) struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    given: Vec<CertificateDer<'static>>,
    /// The name to expect, instead of the one that was connected to.
    name: Option<ServerName<'static>>,
}

/// What is wrong, in words of our own.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Verifier {
    /// Trusts the certificates of `ca`, in PEM.
    pub fn new(ca: &[u8], name: Option<&str>) -> Result<Verifier, String> {
        let given: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(ca).collect();
        let given = given.map_err(|error| format!("`ca` in [cluster.tls] cannot be read: {error}"))?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(given.iter().cloned());
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let usual = usual.map_err(|_| "`ca` in [cluster.tls] holds no certificate".to_owned())?;
        let name = name.map(|name| ServerName::try_from(name.to_owned())).transpose();
        let name = name.map_err(|_| "`server_name` in [cluster.tls] is no name of a server".to_owned())?;
        Ok(Verifier { usual, given, name })
    }

    /// In plain words, where rustls has none or says less than is known.
    fn explained(&self, error: Error, shown: &[&CertificateDer<'_>], name: &ServerName<'_>) -> Error {
        if let Some(weak) = self.weak_key(shown) {
            return refused(weak);
        }
        let Error::InvalidCertificate(reason) = &error else {
            return error;
        };
        refused(match reason {
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the server's certificate expired on {}", date(*not_after))
            }
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "the server's certificate is not valid before {}: is the clock of this host right?",
                date(*not_before)
            ),
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                "the server's certificate names no host (no subject alternative name): issue one that does".to_owned()
            }
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "the server's certificate is valid for {}, not for {}: if that is right, set `server_name` in [cluster.tls]",
                presented
                    .iter()
                    .map(|name| plain_name(name))
                    .collect::<Vec<_>>()
                    .join(", "),
                name.to_str()
            ),
            CertificateError::UnknownIssuer => {
                "the server's certificate is by an unknown issuer: `ca` in [cluster.tls] must hold the authority that \
                 signed it, or the certificate itself"
                    .to_owned()
            }
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "the server shows the certificate of an authority (CA:TRUE): name that certificate itself as `ca` in \
                 [cluster.tls], or issue one for servers"
                    .to_owned()
            }
            _ => return error,
        })
    }

    /// Says which RSA key is too short, of what the server showed and of who signed that.
    fn weak_key(&self, shown: &[&CertificateDer<'_>]) -> Option<String> {
        let shown: Vec<Certificate> = shown.iter().filter_map(|der| Certificate::of_der(der)).collect();
        let authorities = self.given.iter().filter_map(|der| Certificate::of_der(der));
        let mut signers = authorities.filter(|authority| shown.iter().any(|one| authority.is_named_as_issuer_of(one)));
        let short = |certificate: &Certificate| certificate.rsa_bits.filter(|bits| *bits < LEAST_RSA_BITS);
        let too_short = |whose, bits| {
            format!(
                "{whose} has an RSA key of {bits} bits, and {LEAST_RSA_BITS} is the least that is safe: make it anew"
            )
        };
        if let Some(bits) = shown.iter().find_map(short) {
            return Some(too_short("the server's certificate", bits));
        }
        signers.find_map(|authority| Some(too_short("the authority in `ca`", short(&authority)?)))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        let is_given = self.given.iter().any(|given| given == end_entity);
        let verified = match is_given {
            true => trusted_itself(end_entity, name, now),
            false => self
                .usual
                .verify_server_cert(end_entity, intermediates, name, ocsp_response, now),
        };
        verified.map_err(|error| {
            let shown: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
            self.explained(error, &shown, name)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.usual.verify_tls12_signature(message, certificate, signed);
        verified.map_err(|error| self.weak_key(&[certificate]).map_or(error, refused))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verified = self.usual.verify_tls13_signature(message, certificate, signed);
        verified.map_err(|error| self.weak_key(&[certificate]).map_or(error, refused))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// A certificate that is among those given as authorities needs no signature of another.
fn trusted_itself(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let says = Certificate::of_der(certificate).ok_or(CertificateError::BadEncoding)?;
    let (not_before, not_after) = (unix(says.not_before), unix(says.not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    if !says.is_for_servers() {
        return Err(CertificateError::InvalidPurpose.into());
    }
    if says.rsa_bits.is_some_and(|bits| bits < LEAST_RSA_BITS) {
        return Err(CertificateError::BadSignature.into());
    }
    verify_server_name(&parsed, name)?;
    Ok(ServerCertVerified::assertion())
}

/// A name as rustls prints it, `DnsName("a")`, without what it is put into.
fn plain_name(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn unix(time: Timestamp) -> UnixTime {
    // Nothing is valid before 1970.
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        u64::try_from(time.as_second()).unwrap_or_default(),
    ))
}

fn date(time: UnixTime) -> String {
    let time = i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or("an impossible date".to_owned(), |time| time.to_string())
}

fn refused(what: String) -> Error {
    Error::Other(OtherError(Arc::new(Refused(what))))
}

/// How to speak TLS to members whose authority is `ca`.
pub(super) fn client_config(tls: &Tls, ca: &[u8]) -> Result<ClientConfig, String> {
    let verifier = Verifier::new(ca, tls.server_name.as_deref())?;
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let Some((certificate, key)) = &tls.identity else {
        return Ok(builder.with_no_client_auth());
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
    let certificates = certificates.map_err(|error| format!("the client certificate cannot be read: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes());
    let key = key.map_err(|error| format!("the client's key cannot be read: {error}"))?;
    let config = builder.with_client_auth_cert(certificates, key);
    config.map_err(|error| format!("the client certificate and its key cannot be used: {error}"))
}

/// What makes a member refuse our certificate, as far as the certificate tells.
pub(super) fn fault_of_client(tls: &Tls) -> Option<String> {
    let (certificate, _) = tls.identity.as_ref()?;
    let certificate = Certificate::of_pem(certificate)?;
    let now = UnixTime::now();
    let ours = "the client certificate (`cert` in [cluster.tls])";
    if now > unix(certificate.not_after) {
        return Some(format!("{ours} expired on {}", certificate.not_after));
    }
    if now < unix(certificate.not_before) {
        return Some(format!("{ours} is not valid before {}", certificate.not_before));
    }
    let is_for_clients = certificate.is_for_clients();
    (!is_for_clients).then(|| format!("{ours} is not for clients: its extended key usage lacks clientAuth"))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        date_time_ymd,
    };

    use super::*;

    /// A certificate for 127.0.0.1 as one command of openssl makes it: its own authority.
    fn own_authority(change: impl FnOnce(&mut CertificateParams)) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "etcd");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn verify(given: &str, shown: &CertificateDer<'_>, name: &str) -> Result<(), String> {
        let verifier = Verifier::new(given.as_bytes(), None).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now());
        verified.map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_certificate_that_is_given_as_authority_is_good_for_its_own_server() {
        let own = own_authority(|_| {});
        assert_eq!(verify(&own.pem(), own.der(), "127.0.0.1"), Ok(()));
        // As one of several, too.
        let both = format!("{}{}", own_authority(|_| {}).pem(), own.pem());
        assert_eq!(verify(&both, own.der(), "127.0.0.1"), Ok(()));
        let no_authority = own_authority(|params| params.is_ca = IsCa::ExplicitNoCa);
        assert_eq!(verify(&no_authority.pem(), no_authority.der(), "127.0.0.1"), Ok(()));
    }

    #[test]
    fn nothing_else_is_good_for_being_given() {
        let refusal = |given: &rcgen::Certificate, shown: &rcgen::Certificate, name| {
            verify(&given.pem(), shown.der(), name).expect_err("it is not good")
        };
        let own = own_authority(|_| {});
        assert!(refusal(&own, &own, "127.0.0.2").contains("is valid for 127.0.0.1, not for 127.0.0.2"));
        // The same name, another key: what anybody can make.
        let forged = own_authority(|_| {});
        refusal(&own, &forged, "127.0.0.1");
        let expired = own_authority(|params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 31);
        });
        let says = refusal(&expired, &expired, "127.0.0.1");
        assert!(
            says.ends_with("the server's certificate expired on 2020-01-31T00:00:00Z"),
            "{says}"
        );
        let not_yet = own_authority(|params| {
            params.not_before = date_time_ymd(2100, 1, 1);
            params.not_after = date_time_ymd(2101, 1, 1);
        });
        assert!(refusal(&not_yet, &not_yet, "127.0.0.1").contains("not valid before 2100-01-01"));
        let for_clients =
            own_authority(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        refusal(&for_clients, &for_clients, "127.0.0.1");
    }

    #[test]
    fn what_an_authority_signed_is_judged_as_ever() {
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (one, other) = (authority("one"), authority("other"));
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &one).unwrap();
        assert_eq!(verify(&one.pem(), leaf.der(), "127.0.0.1"), Ok(()));
        assert!(
            verify(&one.pem(), leaf.der(), "localhost")
                .unwrap_err()
                .contains("server_name")
        );
        let unknown = verify(&other.pem(), leaf.der(), "127.0.0.1").unwrap_err();
        assert!(unknown.contains("unknown issuer"), "{unknown}");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_as_server = params.signed_by(&KeyPair::generate().unwrap(), &one).unwrap();
        let refused = verify(&one.pem(), authority_as_server.der(), "127.0.0.1").unwrap_err();
        assert!(refused.contains("CA:TRUE"), "{refused}");
    }

    #[test]
    fn files_that_hold_no_authority_are_told() {
        for pem in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            let refused = Verifier::new(pem.as_bytes(), None).unwrap_err();
            assert!(refused.contains("[cluster.tls]"), "{refused}");
        }
    }
}
