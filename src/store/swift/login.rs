//! Who asks, and where the container is then: TempAuth (version 1), or Keystone (version 3) by a password or an application
//! credential.

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::requests::{Fault, body_of};
use crate::error_chain::with_causes;
use crate::secret::Secret;
use crate::store::credential_document::Pairs;

/// A token is replaced so long before its end, or when a tenth of its life is left.
const BEFORE_ITS_END: Duration = Duration::from_secs(300);

/// What is believed of a token that does not say how long it lives.
const UNSAID: Duration = Duration::from_secs(3600);

/// How long the server that gives tokens may take.
const ANSWER: Duration = Duration::from_secs(8);

/// What a catalog may have.
const LARGEST_CATALOG: usize = 4 << 20;

/// Who asks, and whom for a token.
pub(super) struct Login {
    /// Read anew for each token: it may have been changed.
    secret: Option<Secret>,
    /// Of the server that gives tokens, where the configuration names it.
    endpoint: Option<String>,
    region: Option<String>,
}

/// What the servers of objects are shown.
pub(super) struct Token {
    pub value: String,
    /// The URL of the account, without a slash at its end.
    pub storage: String,
    renewed_at: Instant,
}

impl Token {
    /// Whether it is to be replaced.
    pub fn is_old(&self) -> bool {
        Instant::now() >= self.renewed_at
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("storage", &self.storage)
            .finish_non_exhaustive()
    }
}

impl Login {
    pub fn new(secret: Option<Secret>, endpoint: Option<String>, region: Option<String>) -> Login {
        Login {
            secret,
            endpoint,
            region,
        }
    }

    /// A new token.
    pub async fn token(&self, client: &reqwest::Client) -> Result<Token, Fault> {
        let pairs = match &self.secret {
            Some(secret) => Pairs::read(secret).map_err(Fault::Refused)?,
            None => Pairs::around(&["OS_", "ST_"]),
        };
        let told = tokio::time::timeout(ANSWER, async {
            match pairs.get(&["st_user"]) {
                Some(_) => self.version_1(client, &pairs).await,
                None => self.version_3(client, &pairs).await,
            }
        });
        told.await.map_err(|_| Fault::Silent(ANSWER))?
    }

    async fn version_1(&self, client: &reqwest::Client, pairs: &Pairs) -> Result<Token, Fault> {
        let url = self.url(pairs, &["st_auth"])?;
        let asked = client
            .get(url)
            .header("X-Auth-User", pairs.want(&["st_user"]).map_err(Fault::Refused)?)
            .header("X-Auth-Key", pairs.want(&["st_key"]).map_err(Fault::Refused)?);
        let reply = answered(asked).await?;
        let header = |name: &str| reply.headers().get(name).and_then(|value| value.to_str().ok());
        let (Some(value), Some(storage)) = (header("X-Auth-Token"), header("X-Storage-Url")) else {
            return Err(Fault::Other(
                "the server that was asked for a token gave none".to_owned(),
            ));
        };
        let lives = header("X-Auth-Token-Expires").or_else(|| header("X-Storage-Token-Expires"));
        let lives = lives.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        Ok(token(value, storage, lives))
    }

    async fn version_3(&self, client: &reqwest::Client, pairs: &Pairs) -> Result<Token, Fault> {
        let url = self.url(pairs, &["os_auth_url"])?;
        let url = url.trim_end_matches('/');
        let version = if url.ends_with("/v3") { "" } else { "/v3" };
        let asked = client
            .post(format!("{url}{version}/auth/tokens"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(identity(pairs)?.to_string());
        let mut reply = answered(asked).await?;
        let value = reply
            .headers()
            .get("X-Subject-Token")
            .and_then(|value| value.to_str().ok());
        let value = value.map(str::to_owned);
        let value = value.ok_or_else(|| Fault::Other("Keystone gave no token".to_owned()))?;
        let body = body_of(&mut reply, LARGEST_CATALOG as u64, ANSWER).await?;
        let body: Value = serde_json::from_slice(&body)
            .map_err(|_| Fault::Other("what Keystone said of the token is no JSON".to_owned()))?;
        let region = self.region.as_deref().or_else(|| pairs.get(&["os_region_name"]));
        let interface = pairs.get(&["os_interface", "os_endpoint_type"]).unwrap_or("public");
        let storage = endpoint_of(&body, region, interface.trim_end_matches("URL"))?;
        let ends = body.pointer("/token/expires_at").and_then(Value::as_str);
        let ends = ends.and_then(|ends| ends.parse::<Timestamp>().ok());
        let began = body.pointer("/token/issued_at").and_then(Value::as_str);
        let began = began.and_then(|began| began.parse::<Timestamp>().ok());
        // By its own clock: this host's may be another.
        let lives = ends.zip(began).map(|(ends, began)| ends.duration_since(began));
        Ok(token(
            &value,
            storage,
            lives.and_then(|lives| Duration::try_from(lives).ok()),
        ))
    }

    /// Of the server that gives tokens.
    fn url(&self, pairs: &Pairs, names: &[&str]) -> Result<String, Fault> {
        match (&self.endpoint, pairs.want(names)) {
            (Some(endpoint), _) => Ok(endpoint.clone()),
            (None, Ok(url)) => Ok(url.to_owned()),
            (None, Err(error)) if self.secret.is_some() => Err(Fault::Refused(error)),
            (None, Err(_)) => Err(Fault::Unknown),
        }
    }
}

/// Who asks, as Keystone wants it.
fn identity(pairs: &Pairs) -> Result<Value, Fault> {
    let of = |names: &[&str]| pairs.get(names).filter(|value| !value.is_empty());
    // A domain by its id or its name.
    let domain = |id: &[&str], name: &[&str]| match (of(id), of(name)) {
        (Some(id), _) => json!({ "id": id }),
        (None, name) => json!({ "name": name.unwrap_or("Default") }),
    };
    let user_domain = domain(
        &["os_user_domain_id", "os_domain_id"],
        &["os_user_domain_name", "os_domain_name"],
    );
    let user = match (of(&["os_user_id"]), of(&["os_username"])) {
        (Some(id), _) => json!({ "id": id }),
        (None, Some(name)) => json!({ "name": name, "domain": user_domain }),
        (None, None) => Value::Null,
    };
    let credential_secret = of(&["os_application_credential_secret"]);
    if let Some(secret) = credential_secret {
        let credential = match of(&["os_application_credential_id"]) {
            Some(id) => json!({ "id": id, "secret": secret }),
            None => {
                let name = pairs
                    .want(&["os_application_credential_name"])
                    .map_err(Fault::Refused)?;
                json!({ "name": name, "secret": secret, "user": user })
            }
        };
        let method = "application_credential";
        return Ok(json!({ "auth": { "identity": { "methods": [method], method: credential } } }));
    }
    let mut user = user;
    let Some(fields) = user.as_object_mut() else {
        return Err(Fault::Refused(
            "the credentials have no line `OS_USERNAME = …`".to_owned(),
        ));
    };
    let password = pairs.want(&["os_password"]).map_err(Fault::Refused)?;
    fields.insert("password".to_owned(), password.into());
    let scope = match (
        of(&["os_project_id", "os_tenant_id"]),
        of(&["os_project_name", "os_tenant_name"]),
    ) {
        (Some(id), _) => json!({ "project": { "id": id } }),
        (None, Some(name)) => {
            let domain = domain(
                &["os_project_domain_id", "os_domain_id"],
                &["os_project_domain_name", "os_domain_name"],
            );
            json!({ "project": { "name": name, "domain": domain } })
        }
        (None, None) => {
            return Err(Fault::Refused(
                "the credentials have no line `OS_PROJECT_NAME = …`".to_owned(),
            ));
        }
    };
    let identity = json!({ "methods": ["password"], "password": { "user": user } });
    Ok(json!({ "auth": { "identity": identity, "scope": scope } }))
}

/// Where the account is, by the catalog that came with a token.
fn endpoint_of<'a>(body: &'a Value, region: Option<&str>, interface: &str) -> Result<&'a str, Fault> {
    let catalog = body.pointer("/token/catalog").and_then(Value::as_array);
    let services = catalog.into_iter().flatten();
    let services = services.filter(|service| service["type"] == "object-store");
    let endpoints = services.flat_map(|service| service["endpoints"].as_array().into_iter().flatten());
    let here = |endpoint: &&Value| {
        let is_in = |region: &str| endpoint["region"] == region || endpoint["region_id"] == region;
        endpoint["interface"] == interface && region.is_none_or(is_in)
    };
    let found: Vec<&str> = endpoints
        .filter(here)
        .filter_map(|endpoint| endpoint["url"].as_str())
        .collect();
    let of = region.map_or(String::new(), |region| format!(" of region {region}"));
    match found.as_slice() {
        [only] => Ok(only),
        [first, ..] if region.is_some() => Ok(first),
        [] => Err(Fault::Other(format!(
            "Keystone's catalog has no object store{of} with a {interface} endpoint: look at `region` and OS_INTERFACE"
        ))),
        _ => Err(Fault::Other(
            "Keystone's catalog has object stores of several regions: name one by `region`".to_owned(),
        )),
    }
}

fn token(value: &str, storage: &str, lives: Option<Duration>) -> Token {
    let lives = lives.unwrap_or(UNSAID);
    let before = BEFORE_ITS_END.min(lives / 10);
    Token {
        value: value.to_owned(),
        storage: storage.trim_end_matches('/').to_owned(),
        renewed_at: Instant::now() + lives.saturating_sub(before),
    }
}

async fn answered(asked: reqwest::RequestBuilder) -> Result<reqwest::Response, Fault> {
    let reply = asked.send().await;
    let reply = reply.map_err(|error| Fault::Lost(with_causes(&error.without_url())))?;
    match reply.status().as_u16() {
        200..=299 => Ok(reply),
        401 | 403 => Err(Fault::Refused(format!(
            "no token was given to it ({}): look at user, project, domains and secret",
            reply.status()
        ))),
        status => Err(Fault::Told(status, "by the server that gives tokens".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Value {
        let endpoint = |region: &str, interface: &str| json!({ "region": region, "region_id": region, "interface": interface, "url": format!("https://{region}.{interface}") });
        json!({ "token": { "catalog": [
            { "type": "identity", "endpoints": [endpoint("one", "public")] },
            { "type": "object-store", "endpoints": [
                endpoint("one", "public"), endpoint("one", "internal"), endpoint("two", "public")
            ] },
        ] } })
    }

    #[test]
    fn the_account_is_where_the_catalog_has_it() {
        let catalog = catalog();
        let found = |region, interface| endpoint_of(&catalog, region, interface).ok();
        assert_eq!(found(Some("two"), "public"), Some("https://two.public"));
        assert_eq!(found(Some("one"), "internal"), Some("https://one.internal"));
        assert_eq!(found(None, "internal"), Some("https://one.internal"));
        assert_eq!(found(None, "public"), None, "there are two");
        assert_eq!(found(Some("three"), "public"), None);
        assert!(endpoint_of(&json!({}), None, "public").is_err());
    }

    #[test]
    fn a_token_is_replaced_before_its_end() {
        let is_old = |seconds| token("x", "https://x/", Some(Duration::from_secs(seconds))).is_old();
        assert!(is_old(0) && !is_old(10) && !is_old(3600));
        assert_eq!(token("x", "https://x/v1/a/", None).storage, "https://x/v1/a");
    }

    fn of(text: &str) -> Result<Value, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let pairs = Pairs::read(&Secret::File(file.path().to_owned())).unwrap();
        identity(&pairs).map_err(|fault| format!("{fault:?}"))
    }

    #[test]
    fn who_asks_is_said_as_the_tools_of_openstack_have_it() {
        let by_password = "export OS_USERNAME=u\nexport OS_PASSWORD='p w'\nexport OS_PROJECT_NAME=\"backups\"\n";
        assert_eq!(
            of(by_password).unwrap(),
            json!({ "auth": {
                "identity": { "methods": ["password"], "password": { "user": {
                    "name": "u", "domain": { "name": "Default" }, "password": "p w"
                } } },
                "scope": { "project": { "name": "backups", "domain": { "name": "Default" } } },
            } })
        );
        assert_eq!(
            of("OS_APPLICATION_CREDENTIAL_ID=i\nOS_APPLICATION_CREDENTIAL_SECRET=s\n").unwrap(),
            json!({ "auth": { "identity": {
                "methods": ["application_credential"], "application_credential": { "id": "i", "secret": "s" }
            } } })
        );
        for (text, line) in [
            ("OS_PASSWORD=p\n", "OS_USERNAME"),
            ("OS_USERNAME=u\nOS_PROJECT_NAME=x\n", "os_password"),
            ("OS_USERNAME=u\nOS_PASSWORD=p\n", "OS_PROJECT_NAME"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(line), "{error}");
        }
    }
}
