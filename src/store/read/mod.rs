//! Reads: what the API, the dashboard and the engine's look-outs want to know. Portable SQL, both engines.
//!
//! Every query that answers a client takes the tenant (`None` only for admins) and is bounded.

mod admin;
mod approvals;
mod dead_letters;
mod ledger;
mod lookout;
mod messages;
mod money;
mod prices;
mod reconcile;
mod schedules;
mod statement;
mod usage;
mod waiting;
mod wallets;
mod work;

pub use admin::{Overview, PoolView};
pub use approvals::{ApprovalFilter, ApprovalView};
pub(super) use dead_letters::DEAD;
pub use dead_letters::DeadLetterGroup;
pub use ledger::{Change, GrantedView, OpFilter, TransactionView};
pub use lookout::{Due, ItemOutput, NodeOutput, ReadyRow, WorkflowInput};
pub use messages::{MessageFilter, MessageView};
pub use money::{EntryView, GrantView, HoldView, WalletView};
pub use prices::{PriceBookView, UsedCall};
pub use reconcile::LeaseRow;
pub use statement::{Balance, MovementKind, StatementView};
pub use usage::{MissionCharge, UsageBy, UsageFilter, UsageView};
pub use waiting::{BlockerRow, LinePlace, MOST_COUNTED, PurseRow, StandingRow, WaiterRow};
pub use wallets::{HoldPurpose, OwnedWallet};
pub use work::{CallView, EventView, MissionFilter, MissionView, TaskView, WorkflowView};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::StoreError;

fn parse<T: DeserializeOwned>(row: Value) -> Result<T, StoreError> {
    serde_json::from_value(row).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn all<T: DeserializeOwned>(rows: Vec<Value>) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(parse).collect()
}

pub(super) fn first<T: DeserializeOwned>(rows: Vec<Value>) -> Result<Option<T>, StoreError> {
    rows.into_iter().next().map(parse).transpose()
}
