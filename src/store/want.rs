//! What a decision wants to see: the ids from which a store loads a working set.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bursar_domain::id::{CallId, GrantId, HoldId, MissionId, RunId, ScheduleId, TaskId, TenantId, WalletId};
use bursar_domain::record::{Fan, Scope};
use bursar_domain::state::TaskState;
use bursar_domain::time::Timestamp;
use bursar_domain::workflow::{Definition, Reach};
use bursar_domain::working_set::WorkingSet;

use super::StoreError;

/// Items of one family loaded for one decision at most.
pub(super) const CHUNK: i32 = 256;

/// Whether finished calls are loaded with their journaled answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Journals {
    /// Calls without their answers.
    #[default]
    Closed,
    /// With their answers, for replays.
    Open,
}

/// The rows to load. For each task: its run, mission, wallet, grants, hold and usage calls. For each mission: its
/// latest run, wallet, grants and the hold on the fee. For each wallet: its spendable grants.
///
/// Missions are locked first, in the order of their ids; whoever changes a task, a hold or a run holds its mission.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// Tasks. Their missions must be among `missions`, to be locked before anything is read.
    pub tasks: Vec<TaskId>,
    /// Tasks by run and node index (dependents); their missions as well.
    pub nodes: Vec<(RunId, i32)>,
    /// Nodes whose results are read: what they handed on, where they are over. Their tasks are not locked.
    pub results: BTreeSet<(RunId, i32)>,
    /// Workflows whose `inputs` are read, by mission and the number in its latest run of the workflow's first node.
    pub inputs: BTreeSet<(MissionId, i32)>,
    /// Tasks for which a family is loaded: of each of these parents the next items that may begin, so many at most.
    pub heirs: BTreeMap<TaskId, i32>,
    /// Items by their parent and number.
    pub items: BTreeSet<(TaskId, i32)>,
    /// Parents that end their items: a chunk of those that nobody works on.
    pub idle: BTreeSet<TaskId>,
    /// Secrets of leases that a settle which is repeated may have given away: the running tasks that have them.
    pub handed: BTreeSet<String>,
    /// Items whose results are read, by their parent and number. Their tasks are not locked.
    pub item_results: BTreeSet<(TaskId, i32)>,
    /// Missions.
    pub missions: Vec<MissionId>,
    /// Tasks of missions' latest runs that are in a state, with the tasks above them; the missions must be among `missions`.
    pub latest: Vec<(MissionId, TaskState)>,
    /// Wallets.
    pub wallets: Vec<WalletId>,
    /// Grants, those with nothing left included.
    pub grants: Vec<GrantId>,
    /// Holds that belong to no task or run which is loaded, with the grants they drew from.
    pub holds: Vec<HoldId>,
    /// The time: holds of the wallets whose own deadline passed by then are loaded too.
    pub now: Option<Timestamp>,
    /// Ledger keys that may have been used before.
    pub op_keys: Vec<(WalletId, String)>,
    /// Usage calls that a settle names.
    pub calls: Vec<CallId>,
    /// Tool calls by task and number, with their results.
    pub tool_calls: Vec<(TaskId, i32)>,
    /// Missions whose signals that nobody took yet are read.
    pub signals: BTreeSet<MissionId>,
    /// Signals that may have come before, by mission and the sender's key.
    pub signal_keys: Vec<(MissionId, String)>,
    /// Messages that may have come before, by mission and the sender's key.
    pub message_keys: Vec<(MissionId, String)>,
    /// Dedupe keys by tenant, locked after everything else: whoever asks for them holds his wallets.
    pub dedupe_keys: BTreeSet<(TenantId, String)>,
    /// Whether a run may begin: the tenants of all wallets are asked for how many missions they may have and, where there
    /// is a limit, these are counted, under the locks on the wallets.
    pub begins: bool,
    /// How many missions a tenant may have that says nothing of its own.
    pub max_queued: Option<i64>,
    /// Schedules, locked after everything else.
    pub schedules: Vec<ScheduleId>,
    /// Whether answers are loaded.
    pub journals: Journals,
}

impl Want {
    /// Only wallets.
    pub fn wallets(ids: impl IntoIterator<Item = WalletId>) -> Self {
        let mut wallets: Vec<_> = ids.into_iter().collect();
        wallets.sort_unstable();
        wallets.dedup();
        Self { wallets, ..Self::default() }
    }

    /// Tasks of a mission.
    pub fn tasks(mission: MissionId, ids: impl IntoIterator<Item = TaskId>) -> Self {
        Self { tasks: ids.into_iter().collect(), missions: vec![mission], ..Self::default() }
    }

    /// Whether the missions of all loaded tasks were named, and so locked.
    pub(super) fn covers(&self, set: &WorkingSet) -> Result<(), StoreError> {
        let locked: HashSet<MissionId> = self.missions.iter().copied().collect();
        match set.tasks.iter().find(|task| !locked.contains(&task.mission_id)) {
            Some(task) => Err(StoreError::Unlocked { task: task.id, mission: task.mission_id }),
            None => Ok(()),
        }
    }

    /// What the end of a task means to the family that it belongs to: its ancestors, and the items that may begin next.
    pub fn family(&mut self, ancestors: Option<&[TaskId]>, followers: &[i32]) {
        let Some(parent) = ancestors.and_then(|ancestors| ancestors.first()) else { return };
        self.tasks.extend(ancestors.into_iter().flatten());
        let heirs = self.heirs.entry(*parent).or_default();
        *heirs = heirs.saturating_add(1);
        self.items.extend(followers.iter().map(|item| (*parent, *item)));
    }

    /// What it takes to decide about the tasks that were made of a task.
    pub fn children(&mut self, id: TaskId, fan: &Fan) {
        self.heirs.insert(id, CHUNK);
        self.item_results.extend([1, 2].map(|back| (id, fan.made.saturating_sub(back))));
        self.idle.extend(fan.error.is_some().then_some(id));
    }

    /// What it takes to tell what a workflow inside of a run hands back.
    pub fn scope(&mut self, run: RunId, scope: Scope, definition: &Definition) {
        let at = |index: u32| i32::try_from(index).ok().map(|index| (run, scope.base.saturating_add(index)));
        self.results.extend(definition.handed_back().filter_map(at));
    }

    /// What the end of a task reaches, or its beginning. `base` is the number in the run of its workflow's first node.
    pub fn reach(&mut self, mission: MissionId, run: RunId, base: i32, reach: &Reach) {
        let at = |index: &u32| i32::try_from(*index).ok().map(|index| (run, base.saturating_add(index)));
        self.nodes.extend(reach.nodes.iter().chain(&reach.before).filter_map(at));
        self.results.extend(reach.results.iter().filter_map(at));
        self.inputs.extend(reach.input.then_some((mission, base)));
        self.signals.extend(reach.signals.then_some(mission));
    }

    /// [`Want::latest`], by the words of the tables.
    pub(super) fn latest_words(&self) -> impl Iterator<Item = (MissionId, &'static str)> + '_ {
        self.latest.iter().map(|(mission, state)| (*mission, state.as_str()))
    }

    /// Whether anything is read beyond the rows that may change.
    pub(super) fn reads(&self) -> bool {
        let reads_nothing = self.results.is_empty() && self.inputs.is_empty() && self.item_results.is_empty();
        let reads_no_words = self.signals.is_empty() && self.signal_keys.is_empty() && self.message_keys.is_empty();
        !(reads_nothing && reads_no_words)
    }

    /// Whether tasks are loaded that can't be named, such as the next items of a family.
    pub(super) fn has_families(&self) -> bool {
        !(self.heirs.is_empty() && self.items.is_empty() && self.idle.is_empty() && self.handed.is_empty())
    }
}

/// A JSON array of ids, or of pairs.
pub(super) fn json_list<T: serde::Serialize>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| serde_json::json!(item)).collect::<serde_json::Value>().to_string()
}
