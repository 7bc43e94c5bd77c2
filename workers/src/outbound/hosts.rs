//! The operator's list of hosts: `example.com` exactly, `*.example.com` any below it, `example.com:8443` on that port.

use reqwest::Url;

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    host: String,
    is_below: bool,
    port: Option<u16>,
}

/// Reads a list. Errors: which entry is no host.
pub(crate) fn read(entries: &[String]) -> Result<Vec<Rule>, String> {
    let read = |entry: &String| {
        let says = "write `example.com`, `*.example.com` or `example.com:8443`";
        Rule::parse(entry).ok_or_else(|| format!("`{entry}` is no host: {says}"))
    };
    entries.iter().map(read).collect()
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        let (rest, is_below) = entry.strip_prefix("*.").map_or((entry, false), |rest| (rest, true));
        // what a URL makes of it is what is compared later
        let url = Url::parse(&format!("https://{rest}/")).ok()?;
        let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty() && !rest.contains('/');
        let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let host = url.host_str().filter(|host| plain && !host.contains('*'))?.to_ascii_lowercase();
        Some(Self { host, is_below, port })
    }

    /// Whether a request to that URL is meant.
    pub(crate) fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else { return false };
        let host = host.trim_end_matches('.');
        let named = if self.is_below {
            host.strip_suffix(self.host.as_str()).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        };
        let port = match self.port {
            Some(port) => url.port_or_known_default() == Some(port),
            None => url.port().is_none(),
        };
        named && port
    }
}
