//! A provider's gate: pauses that it asked for, and the breaker. Pure; `gate.lua` and `take.lua` are the same in Redis.

/// Faults in a row that open the breaker: more than the three attempts of one task, so that a single task's bad luck
/// stops nobody else.
pub(super) const FAULTS_TO_OPEN: i64 = 5;
/// Within this time: faults further apart are a provider's daily life.
pub(super) const WINDOW_MS: i64 = 60_000;
/// How long it stays open at first: most restarts of a service take no longer.
pub(super) const OPEN_MS: i64 = 10_000;
/// How long it stays open at most, doubled with each probe that fails: recovery is noticed within two minutes.
pub(super) const MOST_OPEN_MS: i64 = 120_000;
/// How long a probe may take before another one may go: a process that vanished with it must not close the gate for ever.
pub(super) const PROBE_MS: i64 = 60_000;
/// How long others wait while a probe is under way.
pub(super) const PROBE_WAIT_MS: i64 = 1_000;
/// Pause between those who are sent away by one gate, so that they come back one after the other.
pub(super) const APART_MS: i64 = 20;
/// And at most so much later.
pub(super) const MOST_APART_MS: i64 = 60_000;

/// What a call taught about its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lesson {
    /// It failed, and the provider is to blame.
    Fault,
    /// It answered; a refusal is an answer.
    Alive,
    /// It asks for a pause of so many milliseconds.
    Pause(i64),
    /// Nothing: the call was never sent, or stopped.
    Nothing,
}

/// What a gate says to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Go,
    /// Go, and report what came of it: everybody waits for that.
    Probe,
    Paused(i64),
    Open(i64),
}

/// A gate; times in milliseconds of one clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gate {
    pub(super) paused: i64,
    pub(super) open: i64,
    pub(super) opens: u32,
    pub(super) probe: i64,
    waiters: i64,
    faults: i64,
    first: i64,
}

impl Gate {
    fn apart(&mut self) -> i64 {
        self.waiters += 1;
        ((self.waiters - 1) * APART_MS).min(MOST_APART_MS)
    }

    /// Whether a caller may pass.
    pub(super) fn admission(&mut self, now: i64) -> Admission {
        if self.paused > now {
            return Admission::Paused(self.paused - now + self.apart());
        }
        if self.open > now {
            return Admission::Open(self.open - now + self.apart());
        }
        if self.open == 0 {
            return Admission::Go;
        }
        if self.probe > now {
            return Admission::Open((self.probe - now).min(PROBE_WAIT_MS) + self.apart());
        }
        Admission::Probe
    }

    /// A caller was let through as the probe.
    pub(super) fn probed(&mut self, now: i64) {
        self.probe = now + PROBE_MS;
    }

    /// Takes a lesson in.
    pub(super) fn learn(&mut self, now: i64, lesson: Lesson, is_probe: bool) {
        match lesson {
            Lesson::Nothing if is_probe => self.probe = 0,
            Lesson::Nothing => {}
            Lesson::Fault if self.open > 0 && !is_probe => {}
            Lesson::Fault => self.fault(now, is_probe),
            Lesson::Alive | Lesson::Pause(_) if is_probe => {
                let (paused, waiters) = (self.paused, self.waiters);
                *self = Self { paused, waiters, ..Self::default() };
            }
            Lesson::Alive | Lesson::Pause(_) => self.faults = 0,
        }
        if let Lesson::Pause(ms) = lesson {
            self.paused = self.paused.max(now + ms);
            self.waiters = 0;
        }
    }

    fn fault(&mut self, now: i64, is_probe: bool) {
        if now - self.first > WINDOW_MS {
            (self.faults, self.first) = (0, now);
        }
        self.faults += 1;
        self.probe = 0;
        if is_probe || self.faults >= FAULTS_TO_OPEN {
            self.open = now + (OPEN_MS << self.opens.min(10)).min(MOST_OPEN_MS);
            self.opens = (self.opens + 1).min(10);
            (self.faults, self.waiters) = (0, 0);
        }
    }

    /// Whether anybody has to ask it.
    pub(super) fn is_clear(&self, now: i64) -> bool {
        self.paused <= now && self.open == 0 && self.faults == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Gate {
        let mut gate = Gate::default();
        for at in 0..FAULTS_TO_OPEN {
            assert_eq!(gate.admission(at), Admission::Go);
            gate.learn(at, Lesson::Fault, false);
        }
        gate
    }

    #[test]
    fn faults_in_a_row_open_it_and_an_answer_in_between_does_not_let_them_add_up() {
        let mut gate = Gate::default();
        for at in 0..20 {
            let lesson = if at % FAULTS_TO_OPEN == FAULTS_TO_OPEN - 1 { Lesson::Alive } else { Lesson::Fault };
            gate.learn(at, lesson, false);
            assert_eq!(gate.admission(at), Admission::Go);
        }
        assert!(matches!(opened().admission(10), Admission::Open(_)));
    }

    #[test]
    fn faults_far_apart_do_not_open_it() {
        let mut gate = Gate::default();
        for at in 0..20 {
            gate.learn(at * WINDOW_MS / 2, Lesson::Fault, false);
            assert_eq!(gate.admission(at * WINDOW_MS / 2), Admission::Go);
        }
    }

    #[test]
    fn one_probe_goes_and_decides_for_everybody() {
        let mut gate = opened();
        let later = OPEN_MS + FAULTS_TO_OPEN;
        assert_eq!(gate.admission(later), Admission::Probe);
        gate.probed(later);
        assert!(matches!(gate.admission(later + 1), Admission::Open(wait) if wait <= PROBE_WAIT_MS + APART_MS));
        gate.learn(later + 2, Lesson::Fault, false);
        gate.learn(later + 2, Lesson::Alive, false);
        assert!(matches!(gate.admission(later + 3), Admission::Open(_)), "late answers decide nothing");
        let mut failed = gate;
        failed.learn(later + 5, Lesson::Fault, true);
        let wait = |gate: &mut Gate| match gate.admission(later + 5) {
            Admission::Open(wait) => wait,
            other => i64::from(other == Admission::Go),
        };
        assert_eq!(wait(&mut failed), 2 * OPEN_MS, "twice as long as before");
        gate.learn(later + 5, Lesson::Alive, true);
        assert_eq!(gate.admission(later + 6), Admission::Go);
    }

    #[test]
    fn a_probe_that_vanished_is_followed_by_another() {
        let mut gate = opened();
        gate.probed(OPEN_MS + FAULTS_TO_OPEN);
        assert_eq!(gate.admission(OPEN_MS + FAULTS_TO_OPEN + PROBE_MS), Admission::Probe);
    }

    #[test]
    fn those_who_are_sent_away_come_back_one_after_the_other() {
        let mut gate = Gate::default();
        gate.learn(0, Lesson::Pause(1_000), false);
        let waits = [0, 0, 0].map(|now| gate.admission(now));
        assert_eq!(waits, [1_000, 1_020, 1_040].map(Admission::Paused));
        assert_eq!(gate.admission(1_000), Admission::Go);
    }
}
