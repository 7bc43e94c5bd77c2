//! Rates: the same in Redis and in one process; two processes together; providers that ask for a pause or fail.

mod buckets;
mod missions;

use bursar::rates::{Limit, ProviderLimits, RateLimits};

/// Limits of one provider.
fn limits(provider: &str, requests: Option<u64>, tokens: Option<u64>) -> RateLimits {
    let limits = ProviderLimits { all: Limit { requests, tokens }, ..ProviderLimits::default() };
    RateLimits { providers: [(provider.to_owned(), limits)].into(), ..RateLimits::default() }
}
