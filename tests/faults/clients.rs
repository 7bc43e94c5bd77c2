//! Clients that move money over HTTP and keep a model of what they were told. Each repeats a request under its key until
//! it is answered, so that in the end it knows of everything it ever wished whether it happened.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bursar_domain::credits::Ucr;
use bursar_domain::flow::Chance as _;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::hand::SeededChance;

/// How long a request may be repeated before the test gives up: longer than any outage that it makes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Where the server is and who is allowed everything there.
#[derive(Debug, Clone)]
pub(super) struct Counter {
    pub(super) http: reqwest::Client,
    pub(super) base: String,
    pub(super) admin: String,
}

/// One tenant, shared by some clients.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) id: String,
    pub(super) wallet: String,
    pub(super) key: String,
}

/// What a mission was when its client last looked: `None` while it was not over.
type Seen = Option<(String, String)>;

/// What a client was told.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// µcr by the ledger's key of each operation that was acknowledged: grants, adjustments (signed), refunds,
    /// write-offs.
    pub(super) posted: BTreeMap<String, i64>,
    /// Missions that were accepted, and how they ended.
    pub(super) missions: BTreeMap<String, Seen>,
    /// What was refunded of each task's charge.
    refunded: BTreeMap<String, i64>,
    /// Requests that were answered.
    pub(super) answered: u64,
    /// Of these, refused by a rule.
    pub(super) refused: u64,
    /// Requests that had to be repeated.
    pub(super) repeated: u64,
    /// Answers that came from an earlier time: the client repeated the request, or the server did by itself after a commit
    /// whose end it never heard of.
    pub(super) replayed: u64,
}

/// A client at work.
pub(super) struct Client {
    counter: Counter,
    tenant: Arc<Tenant>,
    dice: SeededChance,
    name: String,
    wishes: u64,
    model: Model,
}

fn ucr(text: &Value) -> i64 {
    text.as_str().unwrap().replace('.', "").parse().unwrap()
}

impl Counter {
    /// Asks until there is an answer; how often it had to ask, the status, the body, whether it was a replay.
    pub(super) async fn ask(&self, request: impl Fn(&Self) -> RequestBuilder) -> (u64, StatusCode, Value, bool) {
        let mut tries = 0;
        let answer = eventually("the server answers", PATIENCE, || {
            tries += 1;
            let request = request(self).timeout(Duration::from_secs(10));
            async move {
                let answer = request.send().await.ok()?;
                let (status, is_replay) = (answer.status(), answer.headers().contains_key("idempotent-replayed"));
                if matches!(status.as_u16(), 408 | 429 | 503) {
                    return None;
                }
                Some((status, answer.json().await.ok()?, is_replay))
            }
        });
        let (status, body, is_replay) = answer.await;
        (tries - 1, status, body, is_replay)
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }
}

impl Client {
    pub(super) fn new(counter: Counter, tenant: Arc<Tenant>, seed: u64, number: u64) -> Self {
        let dice = SeededChance::new(seed.wrapping_mul(31).wrapping_add(number));
        Self { counter, tenant, dice, name: format!("{seed}-{number}"), wishes: 0, model: Model::default() }
    }

    /// Does one thing after another until the time is over; what it was told.
    pub(super) async fn work(mut self, end: Instant) -> Model {
        while Instant::now() < end {
            match self.dice.below(20) {
                0..=3 => self.grant().await,
                4..=9 => self.submit().await,
                10..=12 => self.look().await,
                13 => self.cancel().await,
                14..=16 => self.refund().await,
                17 => self.adjust().await,
                18 => self.write_off().await,
                _ => self.freeze().await,
            }
        }
        self.model
    }

    fn amount(&mut self, most: usize) -> i64 {
        i64::try_from(1 + self.dice.below(most)).unwrap()
    }

    fn wish(&mut self) -> String {
        self.wishes += 1;
        format!("{}-{}", self.name, self.wishes)
    }

    /// One request, until it is answered. The server must never say that it failed.
    async fn say(&mut self, method: Method, path: &str, key: Option<&str>, body: &Value) -> (u16, Value) {
        let is_admins = path.starts_with("/v1/wallet") && method != Method::GET;
        let (tenant, counter) = (self.tenant.clone(), self.counter.clone());
        let request = |counter: &Counter| {
            let request = counter.request(method.clone(), path);
            let request = if is_admins {
                request.bearer_auth(&counter.admin).header("X-Bursar-Tenant", &tenant.id)
            } else {
                request.bearer_auth(&tenant.key)
            };
            let request = if method == Method::GET { request } else { request.json(body) };
            key.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key))
        };
        let (repeats, status, body, is_replay) = counter.ask(request).await;
        assert!(!status.is_server_error(), "{path} {status} {body}");
        self.model.answered += 1;
        self.model.repeated += repeats;
        self.model.replayed += u64::from(is_replay);
        self.model.refused += u64::from(status.is_client_error());
        (status.as_u16(), body)
    }

    async fn grant(&mut self) {
        let (key, amount) = (self.wish(), self.amount(3_000_000));
        let mut body = json!({"amount": Ucr::new(amount).to_string(), "kind": "promo", "priority": self.dice.below(3)});
        if self.dice.below(5) < 2 {
            let lasts = Duration::from_millis(100 + self.dice.random() % 900);
            body["expires_at"] =
                json!(chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now() + lasts).to_rfc3339());
        }
        match self.say(Method::POST, "/v1/wallet/grants", Some(&key), &body).await {
            (201, _) => drop(self.model.posted.insert(format!("grant:{key}"), amount)),
            // nobody heard of it before its time was over
            (422, told) if told["errors"][0]["pointer"] == "/expires_at" => {}
            other => panic!("{other:?}"),
        }
    }

    async fn submit(&mut self) {
        let key = self.wish();
        let how = [
            "[[simulate tokens=5]]",
            "[[simulate tokens=5 no_usage]]",
            "[[simulate fail=retryable times=1 after_tokens=2]]",
            "[[simulate fail=permanent after_tokens=2]]",
            "[[simulate tokens=5 output_tokens_reported=60000]]",
            "[[simulate tokens=60]]",
        ][self.dice.below(6)];
        let (workflow, input) = if self.dice.below(2) == 0 { ("steps", "") } else { ("talk", how) };
        let body = json!({"workflow": workflow, "input": {"how": input}});
        match self.say(Method::POST, "/v1/missions", Some(&key), &body).await {
            (202, mission) => drop(self.model.missions.insert(mission["id"].as_str().unwrap().to_owned(), None)),
            (402, _) => {}
            other => panic!("{other:?}"),
        }
    }

    fn some_mission(&mut self, is_wanted: impl Fn(&Seen) -> bool) -> Option<String> {
        let ids: Vec<&String> =
            self.model.missions.iter().filter(|(_, seen)| is_wanted(seen)).map(|(id, _)| id).collect();
        let at = if ids.is_empty() { return None } else { self.dice.below(ids.len()) };
        Some(ids[at].clone())
    }

    async fn look(&mut self) {
        let Some(id) = self.some_mission(Option::is_none) else { return };
        let (status, mission) = self.say(Method::GET, &format!("/v1/missions/{id}"), None, &Value::Null).await;
        assert_eq!(status, 200, "what was accepted is there: {mission}");
        self.model.missions.insert(id, end_of(&mission));
    }

    async fn cancel(&mut self) {
        let Some(id) = self.some_mission(Option::is_none) else { return };
        let path = format!("/v1/missions/{id}/cancel");
        let (status, told) = self.say(Method::POST, &path, None, &json!({})).await;
        assert!(matches!(status, 200 | 409), "{status} {told}");
    }

    /// Gives part of a task's charge back; too much of it is refused, and the client knows beforehand which it will be.
    async fn refund(&mut self) {
        let was_charged = |seen: &Seen| seen.as_ref().is_some_and(|(_, spent)| spent != "0.000000");
        let Some(id) = self.some_mission(was_charged) else { return };
        let (_, mission) = self.say(Method::GET, &format!("/v1/missions/{id}"), None, &Value::Null).await;
        let path = format!("/v1/runs/{}/tasks", mission["run_id"].as_str().unwrap());
        let (_, tasks) = self.say(Method::GET, &path, None, &Value::Null).await;
        let Some(task) = tasks["data"].as_array().unwrap().iter().find(|task| ucr(&task["cost_credits"]) > 0) else {
            return;
        };
        let of = task["id"].as_str().unwrap().to_owned();
        let left = ucr(&task["cost_credits"]) - self.model.refunded.get(&of).copied().unwrap_or_default();
        let amount = self.amount(usize::try_from(left).unwrap() * 6 / 5 + 1);
        let key = self.wish();
        let body = json!({"of": of, "amount": Ucr::new(amount).to_string(), "reason": "a refund"});
        match self.say(Method::POST, "/v1/wallet/refunds", Some(&key), &body).await {
            (201, _) if amount <= left => {
                *self.model.refunded.entry(of).or_default() += amount;
                self.model.posted.insert(format!("refund:{key}"), amount);
            }
            (409, _) if amount > left => {}
            other => panic!("{amount} of {left}: {other:?}"),
        }
    }

    async fn adjust(&mut self) {
        let is_up = self.dice.below(2) == 0;
        let (key, amount) = (self.wish(), self.amount(200_000) * if is_up { 1 } else { -1 });
        let body = json!({"amount": Ucr::new(amount).to_string(), "reason": "an adjustment"});
        match self.say(Method::POST, "/v1/wallet/adjustments", Some(&key), &body).await {
            (201, _) => drop(self.model.posted.insert(format!("adjust:{key}"), amount)),
            (402, _) if !is_up => {}
            other => panic!("{other:?}"),
        }
    }

    async fn write_off(&mut self) {
        let (_, wallet) = self.say(Method::GET, "/v1/wallet", None, &Value::Null).await;
        let debt = ucr(&wallet["debt"]);
        if debt == 0 {
            return;
        }
        let (key, amount) = (self.wish(), self.amount(usize::try_from(debt).unwrap()));
        let body = json!({"amount": Ucr::new(amount).to_string(), "reason": "a write-off"});
        match self.say(Method::POST, "/v1/wallet/write-offs", Some(&key), &body).await {
            (201, _) => drop(self.model.posted.insert(format!("writeoff:{key}"), amount)),
            // somebody repaid it meanwhile
            (409, _) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Freezes, looks, thaws.
    async fn freeze(&mut self) {
        for frozen in [true, false] {
            let (status, wallet) = self.say(Method::PATCH, "/v1/wallet", None, &json!({"frozen": frozen})).await;
            assert_eq!(status, 200, "{wallet}");
            self.look().await;
        }
    }
}

/// How a mission ended and what it cost, once it is over.
pub(super) fn end_of(mission: &Value) -> Seen {
    let status = mission["status"].as_str().unwrap();
    let is_over = matches!(status, "succeeded" | "failed" | "cancelled" | "expired");
    is_over.then(|| (status.to_owned(), mission["budget"]["spent"].as_str().unwrap().to_owned()))
}
