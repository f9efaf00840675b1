//! `[members.NAME]`: where each member of the cluster is reached.

use std::collections::BTreeMap;

use super::key_path::join;
use super::nearest_name::closest;
use super::reader::Reader;
use super::section::{Given, Section};
use super::{MemberName, MemberUrl};

/// `[members.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where clients reach it; at least one.
    pub client_urls: Vec<MemberUrl>,
    /// Where the other members reach it.
    pub peer_urls: Vec<MemberUrl>,
}

impl Reader<'_> {
    pub(super) fn members(&mut self, root: &Section<'_>) -> BTreeMap<MemberName, Member> {
        let section = root.section("members");
        let named = section.named();
        let mut members = BTreeMap::new();
        for (name, key, member) in &named {
            let name = self.parsed(&Given {
                path: member.path.clone(),
                value: *name,
                origin: key,
            });
            let client_urls = self.urls(member, "client_urls");
            let peer_urls = self.urls(member, "peer_urls");
            if !self.is_on(member) {
                continue;
            }
            if client_urls.is_empty() {
                self.missing(member, "client_urls");
            }
            members.extend(name.map(|name| (name, Member { client_urls, peer_urls })));
        }
        if named.is_empty() && !section.has_refused() {
            self.problems
                .nowhere("no member is configured: each has a table `[members.NAME]` with `client_urls`");
        } else if members.is_empty() && self.problems.is_empty() {
            self.problems
                .nowhere("every member is switched off (`enabled = false`)");
        }
        members
    }

    fn urls(&mut self, member: &Section<'_>, name: &str) -> Vec<MemberUrl> {
        let Some(list) = member.list(name) else {
            return Vec::new();
        };
        list.texts().iter().filter_map(|given| self.parsed(given)).collect()
    }

    /// A name that must be that of a member. If members themselves are at fault, nothing is said.
    pub(super) fn known_member(
        &mut self,
        given: &Given<'_, &str>,
        members: &BTreeMap<MemberName, Member>,
    ) -> Option<MemberName> {
        let name: MemberName = self.parsed(given)?;
        if members.contains_key(&name) {
            return Some(name);
        }
        let Given { path, value, origin } = given;
        if self.switched_off.contains(&join("members", value)) {
            self.problems
                .at(origin, &format!("`{path}`: member `{value}` is switched off"));
            return None;
        }
        let near = closest(value, members.keys().map(MemberName::as_str), 2);
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        if !members.is_empty() {
            self.problems
                .at(origin, &format!("`{path}`: `{value}` is not one of `[members]`{hint}"));
        }
        None
    }
}
