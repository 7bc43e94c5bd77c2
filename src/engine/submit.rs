//! Submit: a mission comes in. Batched across requests; each gets its own answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bursar_domain::flow::{self, DedupeMode, Refusal, Submission};
use bursar_domain::id::{MissionId, RunId};
use bursar_domain::ledger::LedgerRefusal;
use bursar_domain::workflow::Problem;

use super::Engine;
use super::batcher::{Full, Process};
use crate::store::read::MissionView;
use crate::store::{Conflict, StoreError, Want};

/// How often a submit is tried whose dedupe key is taken between its look and its write. The winner's row is there for
/// the next try, so the second one ends it unless the winner's mission ended meanwhile.
const MOST_RACES: u32 = 8;

/// How long a submit waits for its commit: longer than for a connection to the database (10 s), so that its cause is told,
/// and shorter than clients and proxies commonly wait (30 s), so that they hear of it.
const SUBMIT_PATIENCE: Duration = Duration::from_secs(15);

/// A mission to submit, checked and complete but for what only the transaction can know.
#[derive(Debug, Clone)]
pub struct Submit(pub Submission);

/// What was made, or what an earlier submit with the same key had made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The mission.
    pub mission_id: MissionId,
    /// Its run.
    pub run_id: RunId,
    /// Whether it existed already.
    pub replayed: bool,
    /// Whether it is another mission, which has the dedupe key.
    pub duplicate: bool,
}

/// Why a submit is refused. Nothing was created.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Credits, budget, prices.
    #[error(transparent)]
    Refused(Refusal),
    /// Nodes that this installation does not run; the workflow was put when it did.
    #[error("{}", .0.first().map_or("nodes are not allowed here", |problem| problem.message.as_str()))]
    NotAllowed(Vec<Problem>),
    /// The idempotency key was used with another body.
    #[error("the Idempotency-Key was used before with another body")]
    KeyReused,
    /// Another submit with the same dedupe key was faster; the next try sees it.
    #[error("another submit with the same dedupe key ran at the same time; try again")]
    Raced,
    /// The store.
    #[error("{0}")]
    Store(String, bool),
    /// More submits wait than the process takes in.
    #[error("so many missions wait to be taken in that this one is not")]
    Overloaded,
    /// The process is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl Engine {
    /// Submits a mission. With an idempotency key, the second submit returns what the first one made.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, SubmitError> {
        if let Some(known) = self.replay(&submission).await? {
            return Ok(known);
        }
        self.check_allowed(&submission).await?;
        let late = |_| Err(SubmitError::Store("the mission was not taken in time".to_owned(), true));
        let answer = tokio::time::timeout(SUBMIT_PATIENCE, self.take_in(&submission)).await.unwrap_or_else(late);
        // somebody else submitted under the same idempotency key since we looked, and so has the dedupe key as well, or
        // the last free place
        let may_be_ours = matches!(
            &answer,
            Err(SubmitError::Store(..) | SubmitError::Refused(Refusal::Duplicate { .. } | Refusal::QueueFull { .. }))
                | Ok(Submitted { duplicate: true, .. })
        );
        if may_be_ours && let Some(known) = self.replay(&submission).await? {
            return Ok(known);
        }
        match answer {
            Err(SubmitError::Store(..)) if submission.idempotency_key.is_some() => {
                Err(SubmitError::Store("the store did not take the mission; try again".to_owned(), true))
            }
            other => other,
        }
    }

    /// Puts a submit in line until there is an answer that another try would not change.
    async fn take_in(&self, submission: &Submission) -> Result<Submitted, SubmitError> {
        let mut answer = Err(SubmitError::Raced);
        for _ in 0..MOST_RACES {
            answer = match self.parts.submits.try_call(Submit(submission.clone())).await {
                Ok(tried) => tried.unwrap_or(Err(SubmitError::Stopping)),
                Err(Full) => Err(SubmitError::Overloaded),
            };
            if !matches!(answer, Err(SubmitError::Raced)) {
                break;
            }
        }
        answer
    }

    async fn check_allowed(&self, submission: &Submission) -> Result<(), SubmitError> {
        let definition = self.definition(submission.workflow_id).await;
        let definition = definition.map_err(|error| SubmitError::Store(error.to_string(), error.is_transient()))?;
        let problems = definition.map(|definition| self.not_allowed(&definition)).unwrap_or_default();
        if problems.is_empty() { Ok(()) } else { Err(SubmitError::NotAllowed(problems)) }
    }

    async fn replay(&self, submission: &Submission) -> Result<Option<Submitted>, SubmitError> {
        let Some(key) = &submission.idempotency_key else { return Ok(None) };
        let known = self.parts.store.mission_by_key(submission.tenant_id, key).await;
        match known.map_err(|error| SubmitError::Store(error.to_string(), error.is_transient()))? {
            None => Ok(None),
            Some(mission) => recognise(&mission, submission).map(Some),
        }
    }
}

fn recognise(mission: &MissionView, submission: &Submission) -> Result<Submitted, SubmitError> {
    if mission.request_hash != submission.request_hash {
        return Err(SubmitError::KeyReused);
    }
    Ok(Submitted { mission_id: mission.id, run_id: mission.run_id, replayed: true, duplicate: false })
}

/// Submits a batch in one transaction; what one of them is refused for does not touch the others.
#[derive(Clone)]
pub(super) struct SubmitBatch;

impl Process<Submit, Result<Submitted, SubmitError>> for SubmitBatch {
    async fn process(
        &self,
        engine: &Engine,
        items: Vec<Submit>,
    ) -> Result<Vec<Result<Submitted, SubmitError>>, StoreError> {
        for item in &items {
            engine.parts.facts.workflow(&engine.parts.store, item.0.workflow_id).await?;
            engine.parts.facts.prices(&engine.parts.store, item.0.price_book_id).await?;
        }
        let dedupes = items.iter().filter_map(|item| Some((item.0.tenant_id, item.0.dedupe.as_ref()?.key.clone())));
        let wallets = items.iter().map(|item| item.0.wallet_id);
        let want = Want { dedupe_keys: dedupes.collect(), begins: true, ..Want::wallets(wallets) };
        let mut seen: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut decide = |turn: &mut flow::Turn<'_>| {
            seen.clear();
            let mut answers: Vec<Result<Submitted, SubmitError>> = Vec::with_capacity(items.len());
            for item in &items {
                let submission = &item.0;
                let key =
                    submission.idempotency_key.as_ref().map(|key| (submission.tenant_id.to_string(), key.clone()));
                let twin = key.as_ref().and_then(|key| seen.get(key)).copied();
                let first = twin.and_then(|index| Some((items.get(index)?, answers.get(index)?.as_ref().ok()?)));
                answers.push(match first {
                    // the same key twice in one batch: the second replays the first, or is refused with it
                    Some((first, _)) if first.0.request_hash != submission.request_hash => Err(SubmitError::KeyReused),
                    Some((_, made)) => Ok(Submitted { replayed: true, ..made.clone() }),
                    None => submit_one(turn, submission),
                });
                if let (Some(key), Some(Ok(_))) = (key, answers.last()) {
                    seen.entry(key).or_insert(answers.len().saturating_sub(1));
                }
            }
            answers
        };
        engine.decide(&want, &mut decide).await
    }

    fn refuse(&self, error: &StoreError) -> Result<Submitted, SubmitError> {
        if matches!(error, StoreError::Conflict(Conflict::DedupeKey)) {
            return Err(SubmitError::Raced);
        }
        let is_race = matches!(error, StoreError::Conflict(Conflict::MissionKey));
        Err(SubmitError::Store(error.to_string(), is_race || error.is_transient()))
    }

    /// Who was told that the mission was not taken in time, or left, has it not made afterwards if that can be helped.
    fn is_left_with_its_caller(&self) -> bool {
        true
    }
}

fn submit_one(turn: &mut flow::Turn<'_>, submission: &Submission) -> Result<Submitted, SubmitError> {
    let returns_existing = submission.dedupe.as_ref().is_some_and(|dedupe| dedupe.mode == DedupeMode::ReturnExisting);
    match flow::submit(turn, submission) {
        Ok(_) => Ok(Submitted {
            mission_id: submission.mission_id,
            run_id: submission.run_id,
            replayed: false,
            duplicate: false,
        }),
        Err(Refusal::Duplicate { mission_id, run_id }) if returns_existing => {
            Ok(Submitted { mission_id, run_id, replayed: false, duplicate: true })
        }
        Err(refusal) => Err(SubmitError::Refused(refusal)),
    }
}

impl SubmitError {
    /// What is needed and what there is, when credits are the reason.
    pub fn shortfall(&self) -> Option<(bursar_domain::credits::Ucr, bursar_domain::credits::Ucr)> {
        match self {
            Self::Refused(Refusal::Ledger(LedgerRefusal::Insufficient { required, available })) => {
                Some((*required, *available))
            }
            _ => None,
        }
    }
}
