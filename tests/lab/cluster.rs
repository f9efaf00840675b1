//! Real etcds on hosts, set up as Debian does it: settings in the environment file of the distribution's unit.

use std::fs;
use std::path::Path;

use super::hosts::{Host, Lab, until};
use super::support::client::{Client, Credentials, wait_for};

/// Where Debian's unit keeps etcd's data.
pub const DATA_DIR: &str = "/var/lib/etcd/default";

/// A cluster with one member a host; the member has the host's name.
pub struct Cluster {
    pub hosts: Vec<Host>,
}

impl Cluster {
    /// Boots hosts and starts a cluster on them that serves.
    pub fn start(lab: &Lab<'_>, members: usize) -> Cluster {
        Cluster::start_on(lab.hosts(members))
    }

    /// The same on hosts that were prepared and are still off.
    pub fn start_on(mut hosts: Vec<Host>) -> Cluster {
        hosts.iter_mut().for_each(Host::power_on);
        hosts.iter_mut().for_each(Host::wait_for_boot);
        let cluster = Cluster { hosts };
        for host in &cluster.hosts {
            cluster.configure(host);
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
        let urls: Vec<String> = self.hosts.iter().map(client_url).collect();
        Client::connect(&urls, &Credentials::default()).expect("nothing is sent yet")
    }

    /// A client of one member.
    pub fn client_of(&self, host: &Host) -> Client {
        Client::connect(&[client_url(host)], &Credentials::default()).expect("nothing is sent yet")
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
            let (name, client, peer) = (&host.name, client_url(host), peer_url(host));
            format!("[members.{name}]\nclient_urls = [\"{client}\"]\npeer_urls = [\"{peer}\"]\n")
        });
        tables.collect()
    }

    fn configure(&self, host: &Host) {
        let all: Vec<String> = self
            .hosts
            .iter()
            .map(|host| format!("{}={}", host.name, peer_url(host)))
            .collect();
        let (client, peer, all) = (client_url(host), peer_url(host), all.join(","));
        let settings = format!(
            "ETCD_LISTEN_CLIENT_URLS={client},http://127.0.0.1:2379\nETCD_ADVERTISE_CLIENT_URLS={client}\n\
             ETCD_LISTEN_PEER_URLS={peer}\nETCD_INITIAL_ADVERTISE_PEER_URLS={peer}\n\
             ETCD_INITIAL_CLUSTER={all}\nETCD_INITIAL_CLUSTER_TOKEN=lab\n"
        );
        host.write("/etc/default/etcd", &settings);
    }
}

/// Puts an upstream server in the place of the distribution's, on a host that is off or on.
pub fn drop_in_etcd(host: &Host, binary: &Path) {
    host.copy_in(binary, "/usr/local/bin/etcd");
    let drop_in = "[Service]\nExecStart=\nExecStart=/usr/local/bin/etcd\n";
    host.write("/etc/systemd/system/etcd.service.d/10-lab.conf", drop_in);
}

fn client_url(host: &Host) -> String {
    format!("http://{}:2379", host.address)
}

fn peer_url(host: &Host) -> String {
    format!("http://{}:2380", host.address)
}
