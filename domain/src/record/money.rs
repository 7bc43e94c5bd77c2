//! Rows of money: wallets, grants, holds, ledger operations, usage calls.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::credits::Ucr;
use crate::id::{CallId, GrantId, HoldId, MissionId, OpId, RunId, TaskId, TenantId, WalletId};
use crate::time::Timestamp;
use crate::usage::Usage;

/// A tenant's credits. The three amounts can be re-derived from the entries at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wallet {
    /// Its id.
    pub id: WalletId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// What its grants have left. Never negative.
    pub available_ucr: Ucr,
    /// What its open holds have reserved. Never negative.
    pub held_ucr: Ucr,
    /// What was used beyond all credits; repaid by the next grant. Never negative.
    pub debt_ucr: Ucr,
    /// A frozen wallet makes no new holds.
    pub frozen: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// What happens with a charge beyond a hold.
    pub overrun: Overrun,
    /// Whether attempts that failed are charged.
    pub charge_failed: ChargeFailed,
    /// The most that may be spent in a UTC day.
    pub day_limit_ucr: Option<Ucr>,
    /// The most that may be spent in a UTC month.
    pub month_limit_ucr: Option<Ucr>,
    /// The most that one mission may spend, whatever its own budget says.
    pub mission_limit_ucr: Option<Ucr>,
    /// The day, since 1970, whose charges are counted.
    pub day: i32,
    /// What was charged in it, refunds not subtracted.
    pub day_spent_ucr: Ucr,
    /// The month, since January 1970, whose charges are counted.
    pub month: i32,
    /// What was charged in it.
    pub month_spent_ucr: Ucr,
    /// Since when the oldest task has waited for credits that no younger one may take before it.
    pub queue_from: Option<Timestamp>,
    /// Until when that is so, unless it is said again.
    pub queue_until: Option<Timestamp>,
}

/// What happens with a charge beyond the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overrun {
    /// Take it from other grants in draw order, then owe it.
    #[default]
    Debt,
    /// The platform pays it.
    Absorb,
}

/// Whether a task that failed for good is charged for what its attempts used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeFailed {
    /// Never: the platform pays.
    #[default]
    Never,
    /// When the step itself was at fault, not the infrastructure.
    Fault,
    /// Always.
    Always,
}

/// Where granted credits come from; decides the order of spending among equals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    /// A gift.
    Promo,
    /// Part of a plan.
    Included,
    /// Given back for something charged.
    Refund,
    /// A correction.
    Adjust,
    /// Bought.
    Paid,
}

impl GrantKind {
    /// Whether the credits were given without payment: spent before paid ones.
    pub const fn is_free(self) -> bool {
        !matches!(self, Self::Paid)
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "promo" => Some(Self::Promo),
            "included" => Some(Self::Included),
            "refund" => Some(Self::Refund),
            "adjust" => Some(Self::Adjust),
            "paid" => Some(Self::Paid),
            _ => None,
        }
    }
}

/// Credits given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The wallet it belongs to.
    pub wallet_id: WalletId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// Where it comes from.
    pub kind: GrantKind,
    /// 0 is spent first, 100 last.
    pub priority: i16,
    /// What was given.
    pub amount_ucr: Ucr,
    /// What is left.
    pub remaining_ucr: Ucr,
    /// From then on nothing can be drawn from it.
    pub expires_at: Option<Timestamp>,
    /// Whether its rest was written off as breakage.
    pub expired: bool,
    /// Why it was given.
    pub reason: Option<String>,
    /// When it was given.
    pub created_at: Timestamp,
    /// What was paid for all of it, in millionths of a USD, where that is known.
    pub cost_basis_uusd: Option<i64>,
}

/// Whose credits are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldOwner {
    /// A priced task; `owner_id` is a task id.
    Task,
    /// A run's flat fee; `owner_id` is a run id.
    Fee,
    /// A call from outside any mission; `owner_id` names it. Only such a hold expires by itself.
    Call,
}

/// Whether a hold still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Holds credits.
    Open,
    /// Closed by a charge.
    Settled,
    /// Closed without a charge.
    Released,
    /// Closed by its own deadline, without a charge.
    Expired,
}

/// The part of a hold that was drawn from one grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The grant.
    pub grant: GrantId,
    /// How much was drawn from it.
    pub amount: Ucr,
}

/// Credits reserved for one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id.
    pub id: HoldId,
    /// The wallet whose credits are held.
    pub wallet_id: WalletId,
    /// Who owns it.
    pub tenant_id: TenantId,
    /// What kind of owner it has.
    pub owner_kind: HoldOwner,
    /// The owner's id.
    pub owner_id: String,
    /// The mission it counts against.
    pub mission_id: Option<MissionId>,
    /// Whether it still holds.
    pub state: HoldState,
    /// Everything ever put into it, less what a shrink returned.
    pub amount_ucr: Ucr,
    /// The part promised to calls in flight.
    pub reserved_ucr: Ucr,
    /// The part that finished calls used up which are billed, or will be when an attempt succeeds.
    pub used_ucr: Ucr,
    /// What was charged from it when it closed.
    pub captured_ucr: Ucr,
    /// What went home when it closed.
    pub returned_ucr: Ucr,
    /// Which grants it drew from, in draw order.
    pub slices: Vec<Slice>,
    /// How often it was re-sized: numbers the ledger keys.
    pub resizes: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it closed.
    pub closed_at: Option<Timestamp>,
    /// When it closes by itself.
    pub expires_at: Option<Timestamp>,
    /// What was given back of its charge afterwards.
    pub refunded_ucr: Ucr,
    /// What was charged beyond it when it closed, or after.
    pub overrun_ucr: Ucr,
}

/// A source or destination of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Where granted credits come from.
    Issue,
    /// What is left of a grant.
    Grant(GrantId),
    /// What a hold holds.
    Hold(HoldId),
    /// What the wallet owes.
    Debt,
    /// Charged for what was used.
    Usage,
    /// Charged as flat fees.
    Fee,
    /// Expired.
    Breakage,
    /// Where debt that is given up is paid from.
    Writeoff,
    /// Corrections by hand.
    Adjust,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issue => f.write_str("issue"),
            Self::Grant(id) => write!(f, "grant:{id}"),
            Self::Hold(id) => write!(f, "hold:{id}"),
            Self::Debt => f.write_str("debt"),
            Self::Usage => f.write_str("usage"),
            Self::Fee => f.write_str("fee"),
            Self::Breakage => f.write_str("breakage"),
            Self::Writeoff => f.write_str("writeoff"),
            Self::Adjust => f.write_str("adjust"),
        }
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is no ledger account");
        match text.split_once(':') {
            Some(("grant", id)) => id.parse().map(Self::Grant).map_err(|_| unknown()),
            Some(("hold", id)) => id.parse().map(Self::Hold).map_err(|_| unknown()),
            Some(_) => Err(unknown()),
            None => match text {
                "issue" => Ok(Self::Issue),
                "debt" => Ok(Self::Debt),
                "usage" => Ok(Self::Usage),
                "fee" => Ok(Self::Fee),
                "breakage" => Ok(Self::Breakage),
                "writeoff" => Ok(Self::Writeoff),
                "adjust" => Ok(Self::Adjust),
                _ => Err(unknown()),
            },
        }
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One movement of credits: `from`, `to`, and how much (> 0). Stored as `[from, to, amount]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg(pub Account, pub Account, pub Ucr);

/// The kinds of business operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpKind {
    /// Credits given.
    Grant,
    /// Credits reserved.
    Hold,
    /// More reserved for the same owner.
    TopUp,
    /// Part of a hold given back before its end.
    Shrink,
    /// Charge and return, in one.
    Settle,
    /// All of a hold given back.
    Release,
    /// A grant's rest written off, or a hold given back at its deadline.
    Expire,
    /// Part of a charge given back.
    Refund,
    /// A correction by hand, up or down.
    Adjust,
    /// Debt given up.
    WriteOff,
}

/// One immutable business operation with its legs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Its id.
    pub id: OpId,
    /// The wallet.
    pub wallet_id: WalletId,
    /// The owner.
    pub tenant_id: TenantId,
    /// What it is.
    pub kind: OpKind,
    /// Its natural idempotency key, unique in the wallet for ever.
    pub key: String,
    /// What was asked, to tell a replay from a reuse.
    pub request_hash: String,
    /// The movements.
    pub legs: Vec<Leg>,
    /// The mission it belongs to.
    pub mission_id: Option<MissionId>,
    /// The task it belongs to.
    pub task_id: Option<TaskId>,
    /// Who did it, where a person did.
    pub actor: Option<String>,
    /// Available credits after it.
    pub available_after_ucr: Ucr,
    /// When it was posted.
    pub created_at: Timestamp,
    /// Why, where a person says so.
    pub reason: Option<String>,
}

/// Where a usage call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Recorded and (perhaps) sent; not known to have ended.
    Sent,
    /// Answered completely; may be replayed.
    Done,
    /// Ended without a complete answer.
    Failed,
    /// Answered, but the answer made its step fail: never replayed.
    Rejected,
    /// Its worker vanished before it ended; the platform pays.
    Lost,
}

/// One call that used something that costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageCall {
    /// Its id.
    pub id: CallId,
    /// The owner.
    pub tenant_id: TenantId,
    /// The mission.
    pub mission_id: MissionId,
    /// The run, which pins the prices.
    pub run_id: RunId,
    /// The task.
    pub task_id: TaskId,
    /// The hold it reserves on.
    pub hold_id: Option<HoldId>,
    /// The attempt that bought it.
    pub attempt: i32,
    /// Its number within the attempt.
    pub number: i32,
    /// What was asked.
    pub request_hash: String,
    /// Who answers.
    pub provider: String,
    /// With which model.
    pub model: String,
    /// Where it stands.
    pub state: CallState,
    /// What it reserved on the hold while in flight.
    pub reserved_ucr: Ucr,
    /// What it costs at the run's prices, whoever pays.
    pub cost_ucr: Ucr,
    /// Whether the tenant pays for it.
    pub billable: bool,
    /// Whether the usage is our own estimate.
    pub estimated: bool,
    /// What it used.
    pub usage: Option<Usage>,
    /// What a replay needs; `None` in a working set that did not ask for journals.
    pub response: Option<Value>,
    /// Milliseconds from sending to the end.
    pub duration_ms: Option<i64>,
    /// Milliseconds to the first token.
    pub first_token_ms: Option<i64>,
    /// When it was recorded, before it was sent.
    pub created_at: Timestamp,
    /// When its end was recorded.
    pub ended_at: Option<Timestamp>,
    /// Input tokens as the worker counted them before the call, learned factor left out; 0 is not known.
    pub estimated_input_tokens: i64,
    /// The number of the last message of the mission that its conversation has heard of: another attempt at the same
    /// call is told as much.
    #[serde(default)]
    pub heard: i64,
}
