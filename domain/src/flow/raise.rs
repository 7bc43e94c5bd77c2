//! A mission's budget is changed while it runs, or after it was over and before it is retried or forked.

use serde_json::json;

use crate::credits::Ucr;
use crate::id::MissionId;
use crate::ledger::LedgerRefusal;
use crate::workflow::OnExhausted;

use super::{Refusal, Turn};

/// Sets what the mission may spend, and what happens then; `None` leaves it as it is, `Some(None)` lifts the limit.
/// Never below what is spent and held. A mission that is being ended
/// refuses.
pub fn set_budget(
    turn: &mut Turn<'_>,
    id: MissionId,
    budget: Option<Option<Ucr>>,
    on_exhausted: Option<OnExhausted>,
) -> Result<(), Refusal> {
    let mission = turn.mission(id)?;
    let state = turn.run(mission.run_id)?.state;
    if !state.is_open() && !state.is_final() {
        return Err(Refusal::IllegalMove { what: "mission", state: state.as_str(), wish: "given another budget" });
    }
    let committed = mission.spent_ucr.saturating_add(mission.held_ucr);
    if let Some(Some(wanted)) = budget {
        if !wanted.is_positive() {
            return Err(LedgerRefusal::AmountNotPositive(wanted).into());
        }
        if wanted < committed {
            return Err(Refusal::OverBudget { of: "mission", budget: wanted, room: wanted, required: committed });
        }
    }
    let (budget, policy) = (budget.unwrap_or(mission.budget_ucr), on_exhausted.unwrap_or(mission.on_exhausted));
    let now = turn.now;
    if let Some(mission) = turn.set.missions.change(id) {
        mission.budget_ucr = budget;
        mission.on_exhausted = policy;
        mission.updated_at = now;
    }
    let data = json!({"max_credits": budget.map(|budget| budget.to_string()), "on_exhausted": policy});
    turn.emit(id, "mission.budget_changed", None, data);
    Ok(())
}
