//! `bursar soak` as an operator runs it, for a minute: real processes, everything that it breaks, and its verdict.

use std::process::Command;

use serde_json::Value;

use crate::support::service;

/// A soak with a seed on the services that the tests use; its report and what it said meanwhile.
fn soak(words: &[&str]) -> (Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bursar"))
        .args(["soak", "--json", "--postgres-bin", &service("BURSAR_TEST_POSTGRES_BIN")])
        .args(["--redis-server", &service("BURSAR_TEST_REDIS_SERVER")])
        .args(
            Some(service("BURSAR_TEST_POSTGRES_OS_USER"))
                .filter(|user| !user.is_empty())
                .map(|user| format!("--postgres-user={user}")),
        )
        .args(words)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.status.success(), report["holds"] == true, "{report:#}");
    (report, told)
}

#[test]
fn a_minute_of_soak_with_every_fault_leaves_nothing_lost_and_nothing_charged_twice() {
    let (report, told) = soak(&["--minutes", "1", "--seed", "7", "--clients", "24"]);
    assert_eq!(report["holds"], true, "{report:#}\n{told}");
    let figure = |name: &str| {
        let value = &report["figures"][name];
        // what `bursar verify` counted comes as text
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        number.unwrap_or_else(|| panic!("{name}: {report:#}"))
    };
    let faults = report["figures"].as_object().unwrap().keys().filter(|name| name.starts_with("fault_")).count();
    assert!(faults >= 3, "several kinds of faults: {report:#}");
    assert!(figure("tasks_settled") >= 500 && figure("provider_requests") >= 200, "{report:#}");
    assert_eq!(figure("billed_ucr"), figure("billable_calls_ucr") + figure("billable_units_ucr"));
    assert!(figure("billed_ucr") > 0);
    let folder = told.lines().find_map(|line| line.strip_prefix("in ")).expect("it says where it works");
    assert!(!std::path::Path::new(folder).exists(), "{folder} is left behind");
}
