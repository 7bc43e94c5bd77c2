//! What a verification found, as values, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// One row that is not what the entries say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant, `I1` to `I12`.
    pub invariant: &'static str,
    /// One sentence that names the rows and the figures; amounts are in micro-credits.
    pub what: String,
}

/// The state of all money and work at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Counts and sums by name, in the order in which they are shown; amounts are in credits.
    pub figures: Vec<(String, String)>,
    /// What is wrong, in the order of the invariants. Empty is what must be.
    pub violations: Vec<Violation>,
    /// Whether some check found more than is listed.
    pub truncated: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// The value of a figure.
    pub fn figure(&self, name: &str) -> Option<&str> {
        self.figures.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Lines for a terminal: figures in two columns, then the violations.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let names = self.figures.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let values = self.figures.iter().map(|(_, value)| value.chars().count()).max().unwrap_or(0);
        for (name, value) in &self.figures {
            let _ = writeln!(text, "{:names$}  {value:>values$}", name.replace('_', " "));
        }
        for violation in &self.violations {
            let _ = writeln!(text, "{:4} {}", violation.invariant, violation.what);
        }
        let _ = match (self.violations.len(), self.truncated) {
            (0, _) => writeln!(text, "no violations"),
            (1, false) => writeln!(text, "1 violation"),
            (count, false) => writeln!(text, "{count} violations"),
            (count, true) => writeln!(text, "{count} violations shown, there are more"),
        };
        text
    }

    /// `{"clean", "figures": {name: text}, "violations": [{"invariant", "what"}], "truncated"}`.
    pub fn to_json(&self) -> Value {
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
        let violations: Vec<Value> = self
            .violations
            .iter()
            .map(|violation| json!({"invariant": violation.invariant, "what": violation.what}))
            .collect();
        json!({
            "clean": self.is_clean(),
            "figures": figures,
            "violations": violations,
            "truncated": self.truncated,
        })
    }

    /// Puts the violations in the order of their invariants.
    pub(super) fn sort(&mut self) {
        self.violations.sort_by_key(|violation| {
            violation.invariant.get(1..).and_then(|number| number.parse::<u32>().ok()).unwrap_or(u32::MAX)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let violation = |invariant, what: &str| Violation { invariant, what: what.to_owned() };
        let mut report = Report {
            figures: vec![("entries".into(), "12".into()), ("credits_held".into(), "0.500000".into())],
            violations: vec![violation("I10", "hold b"), violation("I2", "hold a")],
            truncated: false,
        };
        report.sort();
        report
    }

    #[test]
    fn the_text_shows_figures_in_columns_and_violations_in_order() {
        let lines = ["entries             12", "credits held  0.500000", "I2   hold a", "I10  hold b", "2 violations"];
        assert_eq!(report().to_text().lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_clean_report_says_so_and_a_truncated_one_that_there_is_more() {
        assert_eq!(Report::default().to_text(), "no violations\n");
        assert!(Report::default().is_clean());
        let cut = Report { truncated: true, ..report() };
        assert!(cut.to_text().ends_with("2 violations shown, there are more\n"));
        assert!(!cut.is_clean());
    }

    #[test]
    fn the_json_has_a_verdict_figures_by_name_and_a_list_of_violations() {
        let json = report().to_json();
        assert_eq!(json["clean"], false);
        assert_eq!(json["figures"]["credits_held"], "0.500000");
        assert_eq!(json["violations"][0], json!({"invariant": "I2", "what": "hold a"}));
        assert_eq!(json["truncated"], false);
    }
}
