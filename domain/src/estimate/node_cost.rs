//! What the calls of one node cost, learned from tasks that succeeded.

use serde::{Deserialize, Serialize};

use super::sketch::Sketch;
use crate::credits::Ucr;
use crate::limits;

/// What was learned about one node. All sums; merges are additions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCost {
    /// Tasks ever learned from.
    pub samples: i64,
    /// What the tasks in the window cost, units included, in µcr.
    pub charged_ucr: i64,
    /// What was held for them as an estimate, in µcr.
    pub estimated_ucr: i64,
    /// How the costs of their calls are distributed, units left out: those are known beforehand.
    pub buckets: Sketch,
}

/// The usual costs of a node's calls, at 5, 50 and 95 percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostRange {
    /// One in twenty costs no more.
    pub low: Ucr,
    /// Half cost no more.
    pub expected: Ucr,
    /// One in twenty costs more.
    pub high: Ucr,
}

impl NodeCost {
    /// Learns from a task: what its calls cost, what it cost altogether, and what its hold was made with.
    pub fn add(&mut self, calls: Ucr, charged: Ucr, estimated: Ucr) {
        let bounded = |amount: Ucr| amount.get().clamp(0, limits::ESTIMATE_LARGEST_SAMPLE_UCR);
        self.samples = self.samples.saturating_add(1);
        self.charged_ucr = self.charged_ucr.saturating_add(bounded(charged));
        self.estimated_ucr = self.estimated_ucr.saturating_add(bounded(estimated));
        self.buckets.add(Ucr::new(bounded(calls)));
        self.fade();
    }

    /// Adds what another process learned.
    pub fn merge(&mut self, other: &Self) {
        self.samples = self.samples.saturating_add(other.samples);
        self.charged_ucr = self.charged_ucr.saturating_add(other.charged_ucr);
        self.estimated_ucr = self.estimated_ucr.saturating_add(other.estimated_ucr);
        self.buckets.merge(&other.buckets);
    }

    /// Halves the window until it is no larger than it may be: what is old counts less and less.
    pub fn fade(&mut self) {
        while self.buckets.is_over_full() {
            self.charged_ucr >>= 1;
            self.estimated_ucr >>= 1;
            self.buckets.halve();
        }
    }

    /// The usual costs; `None` below [`limits::ESTIMATE_LEAST_SAMPLES`] tasks.
    pub fn range(&self) -> Option<CostRange> {
        if self.samples < limits::ESTIMATE_LEAST_SAMPLES {
            return None;
        }
        let at = |percent| self.buckets.percentile(percent);
        Some(CostRange { low: at(5)?, expected: at(50)?, high: at(95)? })
    }

    /// What was charged per million that was held as an estimate; `None` where nothing was held.
    pub fn error_ppm(&self) -> Option<i64> {
        let charged = i128::from(self.charged_ucr).saturating_mul(1_000_000);
        i64::try_from(charged.checked_div(i128::from(self.estimated_ucr))?).ok()
    }
}
