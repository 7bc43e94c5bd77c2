//! `bursar doctor`: is everything around us as it should be? Each line says what was looked at and what to do.

use std::process::ExitCode;
use std::time::Instant;

use crate::boot;
use crate::clock::Clock;
use crate::config::Config;
use crate::link::RedisLink;
use crate::store;

/// More than this between our clock and the database's is worth a word, in ms.
const CLOCK_TOLERANCE_MS: i64 = 1_000;

#[derive(Default)]
struct Findings {
    failed: usize,
}

impl Findings {
    fn good(what: &str, how: &str) {
        println!("ok    {what}: {how}");
    }

    fn bad(&mut self, what: &str, why: &str) {
        self.failed += 1;
        println!("FAIL  {what}: {why}");
    }
}

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut findings = Findings::default();
    database(config, &mut findings).await?;
    redis(config, &mut findings).await;
    match boot::price_book(config.prices.as_deref()) {
        Ok(book) => Findings::good("prices", &format!("`{}`, {} models", book.name(), book.models().count())),
        Err(error) => findings.bad("prices", &error.to_string()),
    }
    match boot::providers(config) {
        Ok(_) if config.providers.is_empty() => {
            Findings::good("providers", "only the simulated one; set OPENAI_API_KEY or OPENAI_BASE_URL for a real one");
        }
        Ok(_) => Findings::good("providers", &config.providers.keys().cloned().collect::<Vec<_>>().join(", ")),
        Err(error) => findings.bad("providers", &error.to_string()),
    }
    Ok(if findings.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn database(config: &Config, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(url) = &config.database_url else {
        findings.bad("database", "DATABASE_URL is not set (`bursar dev` needs none)");
        return Ok(());
    };
    let store = match store::open(url, 2).await {
        Ok(store) => store,
        Err(error) => {
            findings.bad("database", &error.to_string());
            return Ok(());
        }
    };
    match store.check_schema().await {
        Ok(fit) => Findings::good("database", &format!("reachable, {fit}")),
        Err(error) => findings.bad("database", &error.to_string()),
    }
    let (clock, asked) = (Clock::new(), Instant::now());
    let offset = store.time().await?.since_ms(clock.now());
    let how = format!("{offset} ms from the database's, asked in {} ms", asked.elapsed().as_millis());
    if offset.abs() > CLOCK_TOLERANCE_MS {
        findings.bad("clock", &format!("{how}; leases follow the database's clock, but fix NTP"));
    } else {
        Findings::good("clock", &how);
    }
    store.close().await;
    Ok(())
}

async fn redis(config: &Config, findings: &mut Findings) {
    let Some(url) = &config.redis_url else {
        println!("--    redis: REDIS_URL is not set; one process only, the queue is in memory");
        return;
    };
    let asked = async {
        let mut connection = RedisLink::new(url)?.connection().await?;
        let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await?;
        Ok::<_, crate::link::LinkError>(info)
    };
    match asked.await {
        Err(error) => findings.bad("redis", &format!("{error}; workers would poll the database once a second")),
        Ok(info) if info.contains("maxmemory_policy:noeviction") => Findings::good("redis", "reachable, noeviction"),
        Ok(_) => {
            findings.bad("redis", "maxmemory-policy is not noeviction: jobs may vanish until the sweep finds them");
        }
    }
}
