//! Rate limits as the configuration says them: `[providers.NAME]`, `[providers.NAME.limits."MODEL"]`, `[rates]`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Config, ConfigError};
use crate::rates::{Limit, MOST_A_MINUTE, ProviderLimits, RateLimits};

/// The name under which the simulated provider's calls are counted.
const SIMULATED: &str = "simulated";

/// What every tenant may use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatesConfig {
    /// Requests a minute of one tenant; no limit by default.
    pub tenant_requests_per_minute: Option<u64>,
    /// Tokens a minute of one tenant, input and output; no limit by default.
    pub tenant_tokens_per_minute: Option<u64>,
}

/// What one model may use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitConfig {
    /// Requests a minute; no limit by default.
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, input and output; no limit by default.
    pub tokens_per_minute: Option<u64>,
}

fn limit(prefix: &str, requests: Option<u64>, tokens: Option<u64>) -> Result<Limit, ConfigError> {
    for (name, value) in [("requests_per_minute", requests), ("tokens_per_minute", tokens)] {
        let reason = match value {
            Some(0) => {
                "0 would let nothing through: leave the key out for no limit, or disable the provider".to_owned()
            }
            Some(value) if value > MOST_A_MINUTE => format!("must be at most {MOST_A_MINUTE}"),
            _ => continue,
        };
        return Err(ConfigError::Value { name: format!("{prefix}{name}"), reason });
    }
    Ok(Limit { requests, tokens })
}

impl Config {
    /// All limits, checked.
    pub fn rate_limits(&self) -> Result<RateLimits, ConfigError> {
        let mut providers = BTreeMap::new();
        for (name, provider) in &self.providers {
            let prefix = format!("providers.{name}.");
            let all = limit(&prefix, provider.requests_per_minute, provider.tokens_per_minute)?;
            let mut models = BTreeMap::new();
            for (model, limits) in &provider.limits {
                let prefix = format!("{prefix}limits.\"{model}\".");
                models.insert(model.clone(), limit(&prefix, limits.requests_per_minute, limits.tokens_per_minute)?);
            }
            providers.insert(name.clone(), ProviderLimits { all, models, ..ProviderLimits::default() });
        }
        let all = limit("simulated_", self.simulated_requests_per_minute, self.simulated_tokens_per_minute)?;
        if all != Limit::default() {
            providers.insert(SIMULATED.to_owned(), ProviderLimits { all, ..ProviderLimits::default() });
        }
        let of_tenants = (self.rates.tenant_requests_per_minute, self.rates.tenant_tokens_per_minute);
        Ok(RateLimits { providers, tenant: limit("rates.tenant_", of_tenants.0, of_tenants.1)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]
    use super::*;

    fn read(text: &str) -> Result<RateLimits, ConfigError> {
        toml::from_str::<Config>(text).expect("it is TOML").rate_limits()
    }

    #[test]
    fn limits_of_providers_models_and_tenants_are_read() {
        let limits = read(
            "simulated_requests_per_minute = 7\n[rates]\ntenant_tokens_per_minute = 500\n\
             [providers.openai]\nbase_url = \"https://x\"\nrequests_per_minute = 60\n\
             [providers.openai.limits.\"gpt-4.1\"]\ntokens_per_minute = 30000\n",
        );
        let limits = limits.expect("fine");
        let openai = limits.providers.get("openai").expect("it is there");
        assert_eq!(openai.all, Limit { requests: Some(60), tokens: None });
        assert_eq!(openai.models.get("gpt-4.1"), Some(&Limit { requests: None, tokens: Some(30_000) }));
        assert_eq!(limits.providers.get("simulated").map(|limits| limits.all.requests), Some(Some(7)));
        assert_eq!(limits.tenant, Limit { requests: None, tokens: Some(500) });
        assert_eq!(read("").expect("fine"), RateLimits::default());
    }

    #[test]
    fn zero_is_refused_by_name_and_so_is_what_cannot_be_counted() {
        for (text, name) in [
            ("simulated_tokens_per_minute = 0", "simulated_tokens_per_minute"),
            ("[rates]\ntenant_requests_per_minute = 0", "rates.tenant_requests_per_minute"),
            ("[providers.p]\nrequests_per_minute = 0", "providers.p.requests_per_minute"),
            ("[providers.p.limits.\"m\"]\ntokens_per_minute = 0", "providers.p.limits.\"m\".tokens_per_minute"),
            ("[providers.p]\ntokens_per_minute = 9000000000", "providers.p.tokens_per_minute"),
        ] {
            let refused = read(text).expect_err(text).to_string();
            assert!(refused.starts_with(name), "{refused}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        for text in ["[rates]\ntenant_request_per_minute = 1", "[providers.p.limits.m]\nrequests = 1"] {
            assert!(toml::from_str::<Config>(text).is_err(), "{text}");
        }
    }
}
