//! What the operator allows to http steps: hosts, and secrets with the hosts that may be told them.

use std::collections::BTreeMap;
use std::fmt;

use reqwest::Url;
use secrecy::SecretString;

use crate::outbound::{Door, Rule, hosts};

/// What http steps may do.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// Hosts: `example.com` exactly, `*.example.com` any below it, `example.com:8443` on that port. A host without a
    /// port is allowed on the usual one of `https` and `http`.
    pub allow: Vec<String>,
    /// Whether allowed hosts may have private or loopback addresses. Only for services of one's own.
    pub allow_private: bool,
    /// Milliseconds that one request may take, however long the node's timeout is.
    pub timeout_ms: u64,
    /// Secrets by the names that definitions use.
    pub secrets: BTreeMap<String, HttpSecret>,
}

/// A value that definitions may send and never see.
#[derive(Clone)]
pub struct HttpSecret {
    /// The whole value of the header, e.g. `Bearer …`.
    pub value: SecretString,
    /// The hosts that may be told it, written as in [`HttpConfig::allow`].
    pub hosts: Vec<String>,
}

impl fmt::Debug for HttpSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSecret").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Why a configuration of http steps cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpConfigError {
    /// The list of hosts.
    #[error("`http.allow`: {0}")]
    Allow(String),
    /// A secret's list of hosts, or its value.
    #[error("`http.secrets.{name}`: {reason}")]
    Secret {
        /// The secret's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// Sends the requests of http steps.
pub struct HttpService {
    door: Door,
    secrets: BTreeMap<String, (SecretString, Vec<Rule>)>,
}

impl HttpService {
    /// Checks the configuration and builds the client. Sends nothing. The process must have installed a rustls crypto
    /// provider before.
    pub fn new(config: HttpConfig) -> Result<Self, HttpConfigError> {
        let door =
            Door::open(&config.allow, config.allow_private, config.timeout_ms).map_err(HttpConfigError::Allow)?;
        let mut secrets = BTreeMap::new();
        for (name, secret) in config.secrets {
            let refused = |reason: String| HttpConfigError::Secret { name: name.clone(), reason };
            if secret.hosts.is_empty() {
                return Err(refused("`hosts` names no host that may be told it".to_owned()));
            }
            let hosts = hosts::read(&secret.hosts).map_err(refused)?;
            secrets.insert(name.clone(), (secret.value, hosts));
        }
        Ok(Self { door, secrets })
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }

    /// The secret, if that URL's host may be told it. Errors: why not.
    pub(super) fn secret(&self, name: &str, url: &Url) -> Result<&SecretString, String> {
        let Some((secret, hosts)) = self.secrets.get(name) else {
            return Err(format!("there is no secret `{name}`: the operator configures it as `http.secrets.{name}`"));
        };
        if hosts.iter().any(|rule| rule.covers(url)) {
            return Ok(secret);
        }
        let host = url.host_str().unwrap_or_default();
        Err(format!("the secret `{name}` is not for {host}: `http.secrets.{name}.hosts` names those it is for"))
    }
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService")
            .field("door", &self.door)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .finish()
    }
}
