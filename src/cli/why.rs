//! `bursar mission why`: what a mission waits for, with places in lines.

use std::process::ExitCode;

use serde_json::Value;

use super::client::Target;

/// Asks and prints.
pub(super) async fn why(target: &Target, id: &str, json: bool) -> anyhow::Result<ExitCode> {
    let why = target.client(false)?.get(&format!("/v1/missions/{id}/waiting")).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&why)?);
    } else {
        print!("{}", told(&why));
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer for people.
fn told(why: &Value) -> String {
    let text = |pointer: &str| why.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let mut lines = vec![format!("{} is {}; {} tasks run now", text("/mission_id"), text("/status"), why["running"])];
    let reason = text("/status_reason");
    if !reason.is_empty() {
        lines.push(format!("  {reason}"));
    }
    for group in why["waiting"].as_array().into_iter().flatten() {
        let text = |pointer: &str| group.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let tasks = group["tasks"].as_i64().unwrap_or_default();
        lines.push(format!("{tasks:>6} × {:<12} {}", text("/cause"), text("/longest/node")));
        lines.push(format!("         {}", text("/longest/waiting/reason")));
        let until = text("/longest/waiting/until");
        let until = if until.is_empty() { String::new() } else { format!(", until {until}") };
        lines.push(format!("         since {}{until}", text("/longest/waiting/since")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_read_what_waits_why_and_since_when() {
        let why = json!({
            "mission_id": "mis_1", "status": "running", "status_reason": null, "running": 2,
            "waiting": [{"cause": "worker", "tasks": 3, "longest": {"node": "draft", "waiting": {
                "reason": "place 2 among your 3 ready tasks of pool `agent`", "since": "2027-01-01T00:00:00Z", "until": null,
            }}}],
        });
        assert_eq!(
            told(&why),
            "mis_1 is running; 2 tasks run now\n     3 × worker       draft\n         \
             place 2 among your 3 ready tasks of pool `agent`\n         since 2027-01-01T00:00:00Z\n"
        );
    }
}
