//! Rates of all processes together, in Redis. All keys share one hash tag, so that one script sees all of a call's
//! buckets on a cluster too; all times are Redis's own; everything expires by itself once it says nothing any more.

use std::time::Duration;

use async_trait::async_trait;
use redis::{FromRedisValue, Pipeline, Script, ScriptInvocation};

use super::PLACE_MS;
use super::gate::{self, Lesson};
use super::home::{Answer, Away, GateLook, Home, Wanted};
use super::limits::Slot;
use crate::link::{LinkError, RedisLink};

/// How long an answer may take before Redis counts as away: a call waits for it.
const PATIENCE: Duration = Duration::from_millis(500);
/// Units of the scripts' levels in one request or token.
const UNIT: i64 = 60_000;

impl From<LinkError> for Away {
    fn from(error: LinkError) -> Self {
        Self(error.0)
    }
}

impl From<redis::RedisError> for Away {
    fn from(error: redis::RedisError) -> Self {
        Self(error.to_string())
    }
}

/// Buckets, places and gates in Redis.
pub(super) struct Shared {
    link: RedisLink,
    take: Script,
    give: Script,
    gate: Script,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

fn bucket_key(slot: &Slot) -> String {
    format!("bursar:{{rates}}:bucket:{}", slot.key())
}

fn gate_key(provider: &str) -> String {
    format!("bursar:{{rates}}:gate:{provider}")
}

fn place_key(place: &str) -> String {
    format!("bursar:{{rates}}:place:{place}")
}

impl Shared {
    pub(super) fn new(link: RedisLink) -> Self {
        Self {
            link,
            take: Script::new(include_str!("take.lua")),
            give: Script::new(include_str!("give.lua")),
            gate: Script::new(include_str!("gate.lua")),
        }
    }

    async fn invoke<T: FromRedisValue>(&self, call: ScriptInvocation<'_>) -> Result<T, Away> {
        let run = async {
            let mut connection = self.link.connection().await?;
            Ok(call.invoke_async(&mut connection).await?)
        };
        tokio::time::timeout(PATIENCE, run).await.map_err(|_| Away("no answer in time".to_owned()))?
    }

    /// Redis's time in ms, and what the pipeline reads.
    async fn read<T: FromRedisValue>(&self, fill: impl FnOnce(&mut Pipeline) + Send) -> Result<(i64, Vec<T>), Away> {
        let mut pipe = redis::pipe();
        fill(&mut pipe);
        let run = async {
            let mut connection = self.link.connection().await?;
            let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
            // a pipeline of nothing is an error
            let is_empty = pipe.cmd_iter().next().is_none();
            let rows = if is_empty { Vec::new() } else { pipe.query_async(&mut connection).await? };
            Ok((seconds * 1_000 + micros / 1_000, rows))
        };
        tokio::time::timeout(PATIENCE, run).await.map_err(|_| Away("no answer in time".to_owned()))?
    }
}

#[async_trait]
impl Home for Shared {
    async fn take(&self, wanted: &Wanted<'_>) -> Result<Answer, Away> {
        let mut call = self.take.prepare_invoke();
        call.key(gate_key(wanted.provider)).key(place_key(wanted.place));
        call.arg(PLACE_MS).arg(gate::APART_MS).arg(gate::MOST_APART_MS).arg(gate::PROBE_MS).arg(gate::PROBE_WAIT_MS);
        for slot in wanted.slots {
            call.key(bucket_key(slot)).arg(slot.limit).arg(slot.cost);
        }
        let (verdict, wait_ms, which, has_place): (String, i64, usize, i64) = self.invoke(call).await?;
        Ok(match verdict.as_str() {
            "go" => Answer::Go,
            "probe" => Answer::Probe,
            "paused" => Answer::Paused(wait_ms),
            "open" => Answer::Open(wait_ms),
            _ => Answer::Limit { wait_ms, which: which.saturating_sub(1), has_place: has_place == 1 },
        })
    }

    async fn give(&self, place: Option<&str>, back: &[(Slot, i64)]) -> Result<(), Away> {
        let mut call = self.give.prepare_invoke();
        call.key(place_key(place.unwrap_or_default())).arg(i64::from(place.is_some()));
        for (slot, units) in back {
            call.key(bucket_key(slot)).arg(slot.limit).arg(*units);
        }
        self.invoke::<i64>(call).await.map(|_| ())
    }

    async fn learn(&self, provider: &str, lesson: Lesson, is_probe: bool) -> Result<(), Away> {
        let (what, pause_ms) = match lesson {
            Lesson::Fault => ("fault", 0),
            Lesson::Alive => ("alive", 0),
            Lesson::Pause(ms) => ("pause", ms),
            Lesson::Nothing => ("unprobe", 0),
        };
        let mut call = self.gate.prepare_invoke();
        call.key(gate_key(provider)).arg(what).arg(pause_ms).arg(i64::from(is_probe));
        call.arg(gate::FAULTS_TO_OPEN).arg(gate::WINDOW_MS).arg(gate::OPEN_MS).arg(gate::MOST_OPEN_MS);
        self.invoke::<i64>(call).await.map(|_| ())
    }

    async fn left(&self, slots: &[Slot]) -> Result<Vec<i64>, Away> {
        let fill = |pipe: &mut Pipeline| {
            for slot in slots {
                pipe.hmget(bucket_key(slot), &["level", "at"]);
            }
        };
        let (now, rows) = self.read::<(Option<f64>, Option<f64>)>(fill).await?;
        let left = |(slot, (level, at)): (&Slot, (Option<f64>, Option<f64>))| {
            let limit = i64::try_from(slot.limit).unwrap_or(i64::MAX);
            let (Some(level), Some(at)) = (level, at) else { return limit };
            let grown = (now - at as i64).max(0).saturating_mul(limit);
            (level as i64).saturating_add(grown).div_euclid(UNIT).min(limit)
        };
        Ok(slots.iter().zip(rows).map(left).collect())
    }

    async fn gates(&self, providers: &[String]) -> Result<Vec<GateLook>, Away> {
        let fill = |pipe: &mut Pipeline| {
            for provider in providers {
                pipe.hmget(gate_key(provider), &["paused", "open", "faults"]);
            }
        };
        let (now, rows) = self.read::<(Option<f64>, Option<f64>, Option<f64>)>(fill).await?;
        let look = |(paused, open, faults): (Option<f64>, Option<f64>, Option<f64>)| {
            let whole = |number: Option<f64>| number.unwrap_or_default() as i64;
            let (paused, open, faults) = (whole(paused), whole(open), whole(faults));
            GateLook::new(now, (paused, open), paused <= now && open == 0 && faults == 0)
        };
        Ok(rows.into_iter().map(look).collect())
    }
}
