//! The door through which requests leave for hosts that a workflow or a model named.
//!
//! Every such request is hostile until shown otherwise: its host must be on the operator's list, its addresses public
//! (checked in the client's resolver, `address`), redirects stay on their origin, no environment is asked for proxies.

use std::net::IpAddr;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Url};

mod address;
pub(crate) mod hosts;
mod retry_after;

use address::{NotPublic, PublicResolver, is_public};
pub(crate) use hosts::Rule;
pub(crate) use retry_after::retry_after_ms;

/// Redirects that are followed on one origin.
const MOST_REDIRECTS: usize = 5;

/// Which hosts may be called, with a client that calls no others.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    rules: Vec<Rule>,
    allow_private: bool,
    client: Client,
}

impl Door {
    /// Checks the list and builds the client. Sends nothing. Errors: what is wrong with the list.
    pub(crate) fn open(allow: &[String], allow_private: bool, timeout_ms: u64) -> Result<Self, String> {
        let rules = hosts::read(allow)?;
        let builder = guarded(allow_private).timeout(Duration::from_millis(timeout_ms));
        let client = builder.build().map_err(|error| error.without_url().to_string())?;
        Ok(Self { rules, allow_private, client })
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The URL, if a request to it is allowed. Errors: why not, without the URL.
    pub(crate) fn allowed(&self, url: &str) -> Result<Url, String> {
        let url = plain(url)?;
        if !self.rules.iter().any(|rule| rule.covers(&url)) {
            return Err("its host is not on the operator's list".to_owned());
        }
        if !self.allow_private && is_hidden_literal(&url) {
            return Err("its address is not public".to_owned());
        }
        Ok(url)
    }
}

/// A client for one address that the operator named, whose answers may stream for as long as they like: whoever uses it
/// sets time limits. Errors: what is wrong with the address.
pub(crate) fn fixed(url: &str, allow_private: bool, connect_ms: u64) -> Result<Client, String> {
    let url = plain(url)?;
    if !allow_private && is_hidden_literal(&url) {
        return Err("its address is not public".to_owned());
    }
    // no connection is kept for later: one that broke meanwhile would leave the fate of the next request unknown, while
    // one that can't be made tells that nothing was sent
    let builder = guarded(allow_private).connect_timeout(Duration::from_millis(connect_ms)).pool_max_idle_per_host(0);
    builder.build().map_err(|error| error.without_url().to_string())
}

/// What every client of this door has in common.
fn guarded(allow_private: bool) -> ClientBuilder {
    let builder = Client::builder()
        .redirect(Policy::custom(|attempt| {
            let stays = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
            if stays && attempt.previous().len() <= MOST_REDIRECTS { attempt.follow() } else { attempt.stop() }
        }))
        .user_agent(concat!("bursar/", env!("CARGO_PKG_VERSION")))
        .referer(false)
        .no_proxy();
    if allow_private { builder } else { builder.dns_resolver(PublicResolver) }
}

/// The URL, if it is one of HTTP without credentials.
fn plain(url: &str) -> Result<Url, String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only http and https are called".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or password".to_owned());
    }
    Ok(url)
}

/// Whether the host is an address, and not a public one. Such a host is never resolved, so the resolver does not see it.
fn is_hidden_literal(url: &Url) -> bool {
    let literal: Option<IpAddr> =
        url.host_str().and_then(|host| host.trim_start_matches('[').trim_end_matches(']').parse().ok());
    literal.is_some_and(|address| !is_public(address))
}

/// Whether the request was not sent because its host's address is not public.
pub(crate) fn is_hidden(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.downcast_ref::<NotPublic>().is_some())
}

/// The innermost cause, without the URL.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let said = causes(error).last().map_or_else(|| "no cause given".to_owned(), ToString::to_string);
    if error.is_timeout() { "it took too long".to_owned() } else { said.chars().take(200).collect() }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}
