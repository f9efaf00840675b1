//! What an X.509 certificate says of itself, as far as people are told of it: until when it is valid, how long its key is,
//! what it may be used for.
//!
//! Whether a certificate is to be trusted is judged by rustls; this only reads. Bytes come from outside: nothing here panics
//! on them, and nothing is copied.
//!
//! Source of the format: RFC 5280, in DER.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

const RSA: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const EXTENDED_KEY_USAGE: &[u8] = b"\x55\x1d\x25";
const ANY_USAGE: &[u8] = b"\x55\x1d\x25\x00";
const SERVER_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x01";
const CLIENT_AUTH: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x02";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

/// A certificate, as far as it says something of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// From when on it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// The length of its key, if that is one for RSA.
    pub rsa_bits: Option<u32>,
    issuer: Vec<u8>,
    subject: Vec<u8>,
    /// What its key may be used for; all where there is none.
    usages: Option<Vec<Vec<u8>>>,
}

impl Certificate {
    /// The first certificate of a PEM file.
    pub fn of_pem(pem: &[u8]) -> Option<Certificate> {
        Certificate::of_der(&CertificateDer::pem_slice_iter(pem).next()?.ok()?)
    }

    /// When the first of the certificates in a PEM file expires.
    pub fn first_expiry(pem: &[u8]) -> Option<Timestamp> {
        let certificates = CertificateDer::pem_slice_iter(pem);
        let certificates = certificates.filter_map(|found| Certificate::of_der(&found.ok()?));
        certificates.map(|certificate| certificate.not_after).min()
    }

    /// The certificate of these bytes.
    pub(super) fn of_der(der: &[u8]) -> Option<Certificate> {
        let mut to_be_signed = Der(Der(Der(der).expect(SEQUENCE)?).expect(SEQUENCE)?);
        to_be_signed.skip_if(VERSION);
        to_be_signed.expect(INTEGER)?;
        to_be_signed.expect(SEQUENCE)?;
        let issuer = to_be_signed.expect(SEQUENCE)?.to_vec();
        let mut validity = Der(to_be_signed.expect(SEQUENCE)?);
        let (not_before, not_after) = (validity.time()?, validity.time()?);
        let subject = to_be_signed.expect(SEQUENCE)?.to_vec();
        let rsa_bits = rsa_bits(to_be_signed.expect(SEQUENCE)?)?;
        let mut usages = None;
        while let Some((tag, content)) = to_be_signed.next() {
            if tag == EXTENSIONS {
                usages = extended_key_usages(content)?;
            }
        }
        Some(Certificate {
            not_before,
            not_after,
            rsa_bits,
            issuer,
            subject,
            usages,
        })
    }

    /// Whether it bears the name of who issued `other`.
    pub(super) fn is_named_as_issuer_of(&self, other: &Certificate) -> bool {
        self.subject == other.issuer
    }

    /// Whether a server may show it.
    pub(super) fn is_for_servers(&self) -> bool {
        self.is_for(SERVER_AUTH)
    }

    /// Whether a client may show it.
    pub(super) fn is_for_clients(&self) -> bool {
        self.is_for(CLIENT_AUTH)
    }

    fn is_for(&self, usage: &[u8]) -> bool {
        let usages = self.usages.as_ref();
        usages.is_none_or(|usages| usages.iter().any(|may| may == usage || may == ANY_USAGE))
    }
}

/// `SubjectPublicKeyInfo`: the length of the modulus.
fn rsa_bits(key_info: &[u8]) -> Option<Option<u32>> {
    let mut key_info = Der(key_info);
    let algorithm = Der(key_info.expect(SEQUENCE)?).expect(OBJECT_ID)?;
    if algorithm != RSA {
        return Some(None);
    }
    let (_unused_bits, key) = key_info.expect(BIT_STRING)?.split_first()?;
    let modulus = Der(Der(key).expect(SEQUENCE)?).expect(INTEGER)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    let bits = (modulus.len() - zeros) * 8 - first.leading_zeros() as usize;
    Some(u32::try_from(bits).ok())
}

/// The usages that the extensions name, `None` within where they name none.
fn extended_key_usages(extensions: &[u8]) -> Option<Option<Vec<Vec<u8>>>> {
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some((SEQUENCE, extension)) = extensions.next() {
        let mut extension = Der(extension);
        if extension.expect(OBJECT_ID)? != EXTENDED_KEY_USAGE {
            continue;
        }
        while let Some((tag, content)) = extension.next() {
            if tag == OCTET_STRING {
                let mut listed = Der(Der(content).expect(SEQUENCE)?);
                let usages = std::iter::from_fn(|| listed.expect(OBJECT_ID)).map(<[u8]>::to_vec);
                return Some(Some(usages.collect()));
            }
        }
    }
    Some(None)
}

/// Elements of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let mut length = usize::from(*first);
        if length >= 0x80 {
            let (bytes, after) = rest.split_at_checked(length - 0x80)?;
            if bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    fn expect(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.next()
            .filter(|(tag, _)| *tag == expected)
            .map(|(_, content)| content)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }

    fn time(&mut self) -> Option<Timestamp> {
        let (tag, content) = self.next()?;
        let text = std::str::from_utf8(content).ok()?;
        let text = match tag {
            // Two digits of the year: 1950 to 2049.
            UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
            UTC_TIME => format!("19{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
        // RFC 5280 has a certificate without an end expire on 9999-12-31T23:59:59Z, a day later than an instant can be.
        let instant = time.to_zoned(TimeZone::UTC).map(|time| time.timestamp());
        Some(instant.unwrap_or(Timestamp::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};

    use super::*;

    fn sample(usages: Vec<ExtendedKeyUsagePurpose>) -> rcgen::Certificate {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2019, 12, 31);
        params.not_after = date_time_ymd(2051, 2, 28);
        params.extended_key_usages = usages;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_says_until_when_and_what_for() {
        let certificate = Certificate::of_der(sample(vec![ExtendedKeyUsagePurpose::ServerAuth]).der()).unwrap();
        assert_eq!(certificate.not_before.to_string(), "2019-12-31T00:00:00Z");
        assert_eq!(certificate.not_after.to_string(), "2051-02-28T00:00:00Z");
        assert_eq!(certificate.rsa_bits, None);
        assert!(certificate.is_for_servers() && !certificate.is_for_clients());
        assert!(certificate.is_named_as_issuer_of(&certificate));
        let for_all = Certificate::of_pem(sample(vec![]).pem().as_bytes()).unwrap();
        assert!(for_all.is_for_servers() && for_all.is_for_clients());
    }

    #[test]
    fn of_several_the_first_that_expires_counts() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2031, 3, 4);
        let near = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let both = format!("{}{}", sample(vec![]).pem(), near.pem());
        let expiry = Certificate::first_expiry(both.as_bytes()).map(|instant| instant.to_string());
        assert_eq!(expiry.as_deref(), Some("2031-03-04T00:00:00Z"));
        assert_eq!(Certificate::first_expiry(b"nonsense"), None);
    }

    #[test]
    fn a_certificate_may_have_no_end() {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let last_second = date_time_ymd(9999, 12, 31).replace_hour(23).unwrap();
        let last_second = last_second.replace_minute(59).unwrap().replace_second(59).unwrap();
        params.not_after = last_second;
        let endless = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(endless.der().windows(15).any(|text| text == b"99991231235959Z"));
        assert_eq!(Certificate::of_der(endless.der()).unwrap().not_after, Timestamp::MAX);
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_they_are_read_without_panic(flip in 0usize..400, to in any::<u8>(), cut in 0usize..400) {
            let mut der = sample(vec![ExtendedKeyUsagePurpose::Any]).der().to_vec();
            let length = der.len();
            der[flip % length] = to;
            let _read = Certificate::of_der(&der);
            let _read = Certificate::of_der(&der[..cut % length]);
        }
    }
}
