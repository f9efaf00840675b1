//! `[cluster]`: its name, and how its members are spoken to: TLS and a login.

use std::collections::BTreeMap;

use super::file::Value;
use super::reader::Reader;
use super::section::Section;
use super::{Member, MemberName, MemberUrl};
use crate::model::ClusterName;
use crate::secret::Secret;

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// The name it has in every store.
    pub name: ClusterName,
    /// How TLS is spoken with `https://` members.
    pub tls: Tls,
    /// The user to log in as, if etcd wants one.
    pub auth: Option<Auth>,
}

/// `[cluster.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// The authorities that members' certificates are checked against; the system's if none.
    pub ca: Option<Secret>,
    /// The certificate that we show.
    pub client: Option<ClientCertificate>,
    /// The name that members' certificates must have, instead of the host in the URL.
    pub server_name: Option<String>,
}

/// A client certificate with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub cert: Secret,
    /// Its private key, PEM.
    pub key: Secret,
}

/// `[cluster.auth]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// A user of etcd with the role root: a snapshot needs it.
    pub user: String,
    /// Where the password is.
    pub password: Secret,
}

impl Reader<'_> {
    pub(super) fn cluster(&mut self, root: &Section<'_>, members: &BTreeMap<MemberName, Member>) -> Option<Cluster> {
        let section = root.section("cluster");
        let name = match section.text("name") {
            Some(name) => self.parsed(&name),
            None => {
                self.missing(&section, "name");
                None
            }
        };
        let tls = self.tls(&section.section("tls"));
        let auth = self.auth(&section.section("auth"));
        self.doubt_transport(&section, members, auth.is_some());
        Some(Cluster { name: name?, tls, auth })
    }

    fn tls(&mut self, section: &Section<'_>) -> Tls {
        let ca = self.secret(section, "ca");
        let cert = self.secret(section, "cert");
        let key = self.secret(section, "key");
        let client = self.both(section, ("cert", cert), ("key", key));
        let server_name = section
            .text("server_name")
            .and_then(|given| self.not_empty(section, "server_name", &given));
        Tls {
            ca,
            client: client.map(|(cert, key)| ClientCertificate { cert, key }),
            server_name,
        }
    }

    fn auth(&mut self, section: &Section<'_>) -> Option<Auth> {
        let user = section
            .text("user")
            .and_then(|given| self.not_empty(section, "user", &given));
        let password = self.secret(section, "password");
        let (user, password) = self.both(section, ("user", user), ("password", password))?;
        Some(Auth { user, password })
    }

    fn doubt_transport(&mut self, cluster: &Section<'_>, members: &BTreeMap<MemberName, Member>, has_login: bool) {
        let urls: Vec<&MemberUrl> = members.values().flat_map(|member| &member.client_urls).collect();
        if let Some(entry) = cluster.entry("tls")
            && !urls.is_empty()
            && matches!(&entry.node.value, Value::Table(tls) if !tls.is_empty())
            && !urls.iter().any(|url| url.is_https())
        {
            self.warnings.at(
                &entry.key,
                "`cluster.tls` has no effect: no member has an `https://` client URL",
            );
        }
        if let Some(entry) = cluster.entry("auth")
            && has_login
            && let Some(open) = urls.iter().find(|url| !url.is_https() && !url.is_loopback())
        {
            let message = format!("`cluster.auth`: the password goes to {open} unencrypted; use `https://`");
            self.warnings.at(&entry.key, &message);
        }
    }
}
