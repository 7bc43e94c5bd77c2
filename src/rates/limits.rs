//! What is limited, and how: the buckets that a call takes from.
//!
//! Names only. A key of a provider is its name in the configuration, never its secret.

use std::collections::BTreeMap;

use bursar_domain::id::TenantId;
use bursar_domain::outcome::RateKind;

/// The most that a limit may say: counts stay exact in every home, Lua's doubles included.
pub const MOST_A_MINUTE: u64 = 1_000_000_000;

/// The one key that a provider has today.
pub const ONLY_KEY: &str = "default";

/// Limits of one subject, a minute. `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limit {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens, input and output together.
    pub tokens: Option<u64>,
}

/// Limits of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProviderLimits {
    /// Of all its models together.
    pub all: Limit,
    /// Of each key, by the key's name.
    pub keys: BTreeMap<String, Limit>,
    /// Of single models.
    pub models: BTreeMap<String, Limit>,
}

/// All limits of a deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// By provider.
    pub providers: BTreeMap<String, ProviderLimits>,
    /// Of every tenant by itself.
    pub tenant: Limit,
}

/// Whose limit it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A provider.
    Provider(String),
    /// A model of a provider.
    Model(String, String),
    /// A key of a provider.
    Key(String, String),
    /// A tenant.
    Tenant(TenantId),
}

/// What of it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
}

/// One bucket and what a call takes from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Whose.
    pub subject: Subject,
    /// Of what.
    pub unit: Unit,
    /// How much a minute.
    pub limit: u64,
    /// What the call takes.
    pub cost: u64,
}

impl Slot {
    /// Its name in every home.
    pub(super) fn key(&self) -> String {
        let unit = match self.unit {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
        };
        match &self.subject {
            Subject::Provider(name) => format!("provider:{unit}:{name}"),
            Subject::Model(provider, model) => format!("model:{unit}:{provider}/{model}"),
            Subject::Key(provider, key) => format!("key:{unit}:{provider}/{key}"),
            Subject::Tenant(id) => format!("tenant:{unit}:{id}"),
        }
    }

    /// The kind of its limit.
    pub fn kind(&self) -> RateKind {
        match self.subject {
            Subject::Provider(_) => RateKind::Provider,
            Subject::Model(..) => RateKind::Model,
            Subject::Key(..) => RateKind::Key,
            Subject::Tenant(_) => RateKind::Tenant,
        }
    }

    /// What a task waits for, in words.
    pub(super) fn words(&self) -> String {
        let of = match &self.subject {
            Subject::Provider(name) => format!("provider `{name}`"),
            Subject::Model(provider, model) => format!("model `{model}` of provider `{provider}`"),
            Subject::Key(provider, key) => format!("key `{key}` of provider `{provider}`"),
            Subject::Tenant(_) => "the tenant".to_owned(),
        };
        let unit = match self.unit {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
        };
        format!("waits for the rate limit of {of}: {} {unit} a minute", self.limit)
    }
}

impl RateLimits {
    /// The buckets that a call takes from.
    pub(super) fn slots(&self, provider: &str, model: &str, tenant: Option<TenantId>, tokens: u64) -> Vec<Slot> {
        let mut slots = Vec::new();
        let mut add = |subject: Subject, limit: Limit| {
            for (unit, limit, cost) in [(Unit::Requests, limit.requests, 1), (Unit::Tokens, limit.tokens, tokens)] {
                if let Some(limit) = limit {
                    slots.push(Slot { subject: subject.clone(), unit, limit, cost: cost.min(limit) });
                }
            }
        };
        if let Some(limits) = self.providers.get(provider) {
            add(Subject::Provider(provider.to_owned()), limits.all);
            if let Some(limit) = limits.keys.get(ONLY_KEY) {
                add(Subject::Key(provider.to_owned(), ONLY_KEY.to_owned()), *limit);
            }
            if let Some(limit) = limits.models.get(model) {
                add(Subject::Model(provider.to_owned(), model.to_owned()), *limit);
            }
        }
        if let Some(tenant) = tenant {
            add(Subject::Tenant(tenant), self.tenant);
        }
        slots
    }

    /// Every configured bucket that is not a tenant's.
    pub(super) fn fixed(&self) -> Vec<Slot> {
        let mut slots = Vec::new();
        for (provider, limits) in &self.providers {
            slots.extend(self.slots(provider, "", None, 0));
            for model in limits.models.keys() {
                let of_model = |slot: &Slot| matches!(slot.subject, Subject::Model(..));
                slots.extend(self.slots(provider, model, None, 0).into_iter().filter(of_model));
            }
        }
        slots
    }
}
