//! What a mission of the soak is to do, what is done to it meanwhile, and how it must end.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// The workflows, as they are put for each tenant.
pub(super) const WORKFLOWS: &str = include_str!("errands.yaml");

/// What is done to a mission while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// It is left alone.
    Watch,
    /// Its approval is decided.
    Decide(bool),
    /// The signal that it waits for is sent.
    Signal,
    /// A user cancels it.
    Cancel,
    /// It is paused, and goes on a little later.
    Pause,
    /// It may spend more than it was submitted with.
    RaiseBudget,
    /// It fails, and is retried from there.
    Retry,
}

/// How it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing but faults that are to be survived happens to it.
    Succeeds,
    /// The provider refuses it for good, or its budget is too small: an error with this code.
    FailsWith(&'static str),
    /// It may be over before the cancel comes.
    CancelledOrSucceeds,
}

/// One mission to be.
#[derive(Debug, Clone)]
pub(super) struct Errand {
    pub(super) workflow: &'static str,
    pub(super) input: Value,
    pub(super) budget: Option<Value>,
    pub(super) deed: Deed,
    pub(super) end: End,
    /// After how long the deed is done.
    pub(super) after_ms: u64,
}

impl Errand {
    fn of(workflow: &'static str, note: &str) -> Self {
        let (deed, end) = (Deed::Watch, End::Succeeds);
        Self { workflow, input: json!({"note": note}), budget: None, deed, end, after_ms: 0 }
    }

    fn how(mut self, how: impl Into<String>) -> Self {
        self.input["how"] = Value::String(how.into());
        self
    }

    fn doing(self, deed: Deed, end: End) -> Self {
        Self { deed, end, ..self }
    }

    /// The next one. `note` is used once in all.
    pub(super) fn next(dice: &mut StdRng, note: &str, server: &str) -> Self {
        let of = |workflow| Self::of(workflow, note);
        let mut errand = match dice.random_range(0..24) {
            0..=2 => of("chain").how(format!("[[simulate tokens={}]]", dice.random_range(5..70))),
            3 => of("chain").how("[[simulate tokens=5 no_usage]]"),
            4 | 5 => of("chain").how("[[simulate fail=retryable times=2 after_tokens=3 tokens=9]]"),
            6 => of("chain").how("[[simulate fail=rate_limited times=1 retry_after_ms=300]]"),
            7 => of("chain").how("[[simulate fail=permanent after_tokens=2]]").failing("provider_refused"),
            8 => of("chain").how("[[simulate fail=permanent times=1]]").doing(Deed::Retry, End::Succeeds),
            9 => of("chain").how("[[simulate delay_ms=900]]").doing(Deed::Cancel, End::CancelledOrSucceeds),
            10 => of("chain").how("[[simulate delay_ms=200]]").doing(Deed::Pause, End::Succeeds),
            11 | 12 => of("diamond"),
            13 => {
                let (turns, args) = (dice.random_range(1..4), format!("{{\"url\":\"{server}/livez?turn=$n\"}}"));
                of("reading").how(format!("[[simulate tool=http_get args={args} tool_turns={turns} tokens=8]]"))
            }
            14 | 15 => {
                let mut errand = of("items");
                errand.input["count"] = json!(dice.random_range(3..25));
                errand
            }
            16 => of("rounds"),
            17 => of("planned"),
            18 => of("nested"),
            19 => of("nap"),
            20 => of("asking").doing(Deed::Decide(dice.random_range(0..3) > 0), End::Succeeds),
            21 => of("paid").doing(Deed::Signal, End::Succeeds),
            22 => of("standing-in"),
            _ => return Self::of_credits(dice, note),
        };
        errand.after_ms = dice.random_range(0..800);
        errand
    }

    /// Steps whose budget ends before they do: by itself for good, or until it is raised.
    fn of_credits(dice: &mut StdRng, note: &str) -> Self {
        let pauses = dice.random_range(0..2) == 0;
        let (on_exhausted, deed, end) = if pauses {
            ("pause", Deed::RaiseBudget, End::Succeeds)
        } else {
            ("fail", Deed::Watch, End::FailsWith("budget_exhausted"))
        };
        let budget = Some(json!({"max_credits": "0.5", "on_exhausted": on_exhausted}));
        Self { budget, after_ms: dice.random_range(0..800), ..Self::of("steps", note).doing(deed, end) }
    }

    fn failing(self, code: &'static str) -> Self {
        self.doing(Deed::Watch, End::FailsWith(code))
    }
}
