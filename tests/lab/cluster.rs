//! Real etcds on hosts, set up as Debian does it: settings in the environment file of the distribution's unit.

use std::fs;
use std::path::Path;

use super::hosts::{Host, Lab, until};
use super::support::client::{Client, Credentials, wait_for};
use super::support::tls::Tls;

/// Where Debian's unit keeps etcd's data.
pub const DATA_DIR: &str = "/var/lib/etcd/default";
/// Where an upstream server is put.
const DROPPED_IN: &str = "/usr/local/bin/etcd";

/// Where a host with TLS has the certificates.
pub const CERTIFICATES: &str = "/etc/etcd/pki";

/// A cluster with one member a host; the member has the host's name.
pub struct Cluster {
    pub hosts: Vec<Host>,
    /// How clients prove who they are.
    credentials: Credentials,
}

impl Cluster {
    /// Boots hosts and starts a cluster on them that serves.
    pub fn start(lab: &Lab<'_>, members: usize) -> Cluster {
        Cluster::start_on(lab.hosts(members))
    }

    /// The same on hosts that were prepared and are still off.
    pub fn start_on(hosts: Vec<Host>) -> Cluster {
        Cluster::start_with(hosts, Credentials::default())
    }

    /// The same with certificates that every client and every peer must show.
    pub fn start_with_tls(lab: &Lab<'_>, members: usize) -> Cluster {
        let hosts = lab.hosts(members);
        let mut names = vec!["127.0.0.1".to_owned()];
        names.extend(hosts.iter().map(|host| host.address.to_string()));
        let tls = Tls::generate_for(&lab.shared_directory(), &names);
        for host in &hosts {
            for file in [
                &tls.ca,
                &tls.server_cert,
                &tls.server_key,
                &tls.client_cert,
                &tls.client_key,
            ] {
                let name = file.file_name().expect("it is a file").to_string_lossy();
                host.copy_in(file, &format!("{CERTIFICATES}/{name}"));
            }
        }
        let tls = Some(tls);
        Cluster::start_with(hosts, Credentials { tls, user: None })
    }

    fn start_with(mut hosts: Vec<Host>, credentials: Credentials) -> Cluster {
        hosts.iter_mut().for_each(Host::power_on);
        hosts.iter_mut().for_each(Host::wait_for_boot);
        let cluster = Cluster { hosts, credentials };
        for host in &cluster.hosts {
            host.write("/etc/default/etcd", &cluster.settings(host));
            if cluster.credentials.tls.is_some() {
                host.shell(&format!(
                    "chown -R etcd: {CERTIFICATES} && chmod 600 {CERTIFICATES}/*-key.pem"
                ));
            }
            // A member waits for its peers before its unit is started.
            host.run(["systemctl", "enable", "--now", "--no-block", "--quiet", "etcd"]);
        }
        cluster.wait_until_served();
        cluster
    }

    /// Waits until every member serves.
    #[track_caller]
    pub fn wait_until_served(&self) {
        for host in &self.hosts {
            until(&format!("etcd of {} to serve", host.name), || {
                let client = self.client_of(host);
                client.revision().map(drop).map_err(|error| error.to_string())
            });
        }
    }

    /// A client of all members.
    pub fn client(&self) -> Client {
        let urls: Vec<String> = self.hosts.iter().map(|host| self.client_url(host)).collect();
        Client::connect(&urls, &self.credentials).expect("nothing is sent yet")
    }

    /// A client of one member.
    pub fn client_of(&self, host: &Host) -> Client {
        Client::connect(&[self.client_url(host)], &self.credentials).expect("nothing is sent yet")
    }

    /// Writes values that do not compress: enough for a backup to have a middle.
    pub fn fill(&self, mebibytes: usize) {
        let client = self.client();
        for number in 0..mebibytes {
            let mut value = vec![0; 1 << 20];
            getrandom::fill(&mut value).expect("the kernel gives random numbers");
            client
                .put(&format!("/fill/{number:04}"), value, 0)
                .expect("a healthy etcd takes a put");
        }
    }

    /// The host whose member leads.
    #[track_caller]
    pub fn leader(&self) -> &Host {
        let leads = |host: &&Host| {
            let status = wait_for(self.client_of(host).raw().status());
            status.is_ok_and(|status| {
                let own = status.header().map(|header| header.member_id());
                status.leader() != 0 && own == Some(status.leader())
            })
        };
        until("a leader", || {
            self.hosts.iter().find(leads).ok_or_else(|| "none".to_owned())
        })
    }

    /// Has another member lead.
    #[track_caller]
    pub fn move_leader(&self) {
        let before = self.leader();
        let to = self.hosts.iter().find(|host| host.name != before.name);
        let to = self.client_of(to.expect("there is another")).raw();
        let id = wait_for(to.clone().status())
            .expect("it serves")
            .header()
            .expect("it says who it is")
            .member_id();
        let done = wait_for(self.client_of(before).raw().move_leader(id));
        done.expect("a healthy cluster lets another member lead");
        assert_ne!(self.leader().name, before.name);
    }

    /// Stops a single etcd, takes its data away and starts it again: empty, with the same ids.
    pub fn wipe(&self) {
        let [host] = self.hosts.as_slice() else {
            panic!("one member only: others would not take it back")
        };
        host.run(["systemctl", "stop", "etcd"]);
        fs::remove_dir_all(host.path(DATA_DIR)).expect("root can remove it");
        host.run(["systemctl", "start", "etcd"]);
        self.wait_until_served();
    }

    /// The `[members]` of a configuration.
    pub fn members(&self) -> String {
        let tables = self.hosts.iter().map(|host| {
            let (name, client, peer) = (&host.name, self.client_url(host), self.peer_url(host));
            format!("[members.{name}]\nclient_urls = [\"{client}\"]\npeer_urls = [\"{peer}\"]\n")
        });
        tables.collect()
    }

    /// The environment of a host's etcd: all that it needs to know to begin.
    pub fn settings(&self, host: &Host) -> String {
        let all: Vec<String> = self
            .hosts
            .iter()
            .map(|host| format!("{}={}", host.name, self.peer_url(host)))
            .collect();
        let (client, peer, all) = (self.client_url(host), self.peer_url(host), all.join(","));
        let local = client.replace(&host.address.to_string(), "127.0.0.1");
        let mut settings = format!(
            "ETCD_LISTEN_CLIENT_URLS={client},{local}\nETCD_ADVERTISE_CLIENT_URLS={client}\n\
             ETCD_LISTEN_PEER_URLS={peer}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\n\
             ETCD_INITIAL_CLUSTER={all}\nETCD_INITIAL_CLUSTER_TOKEN=lab\n"
        );
        if self.credentials.tls.is_some() {
            for side in ["", "PEER_"] {
                settings += &format!(
                    "ETCD_{side}CERT_FILE={CERTIFICATES}/server.pem\nETCD_{side}KEY_FILE={CERTIFICATES}/server-key.pem\n\
                     ETCD_{side}TRUSTED_CA_FILE={CERTIFICATES}/ca.pem\nETCD_{side}CLIENT_CERT_AUTH=true\n"
                );
            }
        }
        settings
    }

    fn client_url(&self, host: &Host) -> String {
        format!("{}://{}:2379", self.scheme(), host.address)
    }

    /// Where other members reach a host's.
    pub fn peer_url(&self, host: &Host) -> String {
        format!("{}://{}:2380", self.scheme(), host.address)
    }

    fn scheme(&self) -> &'static str {
        match self.credentials.tls {
            Some(_) => "https",
            None => "http",
        }
    }
}

/// Puts an upstream server in the place of the distribution's, on a host that is off or on.
pub fn drop_in_etcd(host: &Host, binary: &Path) {
    // One that runs keeps the file it was started from.
    fs::remove_file(host.path(DROPPED_IN)).ok();
    host.copy_in(binary, DROPPED_IN);
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/local/bin/etcd\n";
    host.write("/etc/systemd/system/etcd.service.d/10-lab.conf", drop_in);
}
