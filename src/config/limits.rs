//! How much is let in, as the configuration says it: `[limits]`.

use bursar_domain::limits::MAX_TENANT_QUEUED;
use serde::Deserialize;

use super::{Config, ConfigError};

/// How much is let in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Missions that are not over, of each tenant that has no limit of its own; any number by default.
    pub max_queued_per_tenant: Option<i64>,
}

impl Config {
    /// How many missions that are not over a tenant may have that has no limit of its own, checked.
    pub fn max_queued(&self) -> Result<Option<i64>, ConfigError> {
        let most = self.limits.max_queued_per_tenant;
        if most.is_some_and(|most| !(0..=MAX_TENANT_QUEUED).contains(&most)) {
            let reason = format!("must be from 0 to {MAX_TENANT_QUEUED}");
            return Err(ConfigError::Value { name: "limits.max_queued_per_tenant".to_owned(), reason });
        }
        Ok(most)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn read(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn the_limit_of_queues_is_read_and_checked() {
        assert_eq!(read("").max_queued().unwrap(), None);
        assert_eq!(read("[limits]\nmax_queued_per_tenant = 0").max_queued().unwrap(), Some(0));
        for text in ["[limits]\nmax_queued_per_tenant = -1", "[limits]\nmax_queued_per_tenant = 1000000001"] {
            let refused = read(text).max_queued().unwrap_err().to_string();
            assert!(refused.starts_with("limits.max_queued_per_tenant"), "{refused}");
        }
        assert!(toml::from_str::<Config>("[limits]\nmax_queued = 1").is_err());
    }
}
