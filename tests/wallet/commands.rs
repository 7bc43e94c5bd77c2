//! `bursar wallet …` as a process: what it prints, what it changes, how it exits.

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::http::server::Server;
use crate::support::stores::{Place, Storage};

/// What a process said.
#[derive(Debug)]
struct Said {
    ok: bool,
    out: String,
    err: String,
}

async fn run(environment: &[(&str, &str)], arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bursar"));
    command.env_clear().args(arguments).current_dir(std::env::temp_dir());
    for (name, value) in environment {
        command.env(name, value);
    }
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

struct Csv(PathBuf);

impl Csv {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bursar-import-{}.csv", uuid::Uuid::now_v7()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Csv {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const HEAD: &str = "tenant,id,kind,amount,created_at\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_import_is_tried_first_and_done_once() {
    let place = Place::migrated(Storage::Sqlite).await;
    let url = place.url();
    let environment = [("DATABASE_URL", url.as_str())];
    let file = Csv::new(&format!("{HEAD}acme,a,paid,12.5,2024-01-01\nzeta,b,promo,1,2024-01-01\n"));
    let dry = run(&environment, &["wallet", "import", file.path(), "--dry-run", "--json"]).await;
    let told: Value = serde_json::from_str(&dry.out).unwrap();
    let expected = json!({
        "dry_run": true, "grants": 2, "amount": "13.500000", "known": 0, "tenants": 2, "new_tenants": ["acme", "zeta"],
    });
    assert_eq!(told, expected);
    let done = run(&environment, &["wallet", "import", file.path()]).await;
    assert!(done.ok, "{done:?}");
    assert_eq!(
        done.out,
        "gave 13.500000 credits in 2 grants; 0 lines were imported before\n2 tenants, of which 2 are new\n"
    );
    let again = run(&environment, &["wallet", "import", file.path()]).await;
    assert!(again.ok && again.out.starts_with("gave 0.000000 credits in 0 grants; 2 lines"), "{again:?}");

    let other = Csv::new(&format!("{HEAD}acme,a,paid,12.6,2024-01-01\nacme,c,paid,-3,2024-01-01\n"));
    let refused = run(&environment, &["wallet", "import", other.path()]).await;
    assert!(!refused.ok && refused.err.contains("line 3, column amount: must be greater than zero"), "{refused:?}");
    let other = Csv::new(&format!("{HEAD}acme,a,paid,12.6,2024-01-01\nacme,c,paid,3,2024-01-01\n"));
    let refused = run(&environment, &["wallet", "import", other.path()]).await;
    assert!(!refused.ok && refused.err.contains("line 2, column amount: `a` was granted before"), "{refused:?}");
    assert!(refused.err.contains("nothing was imported"));
    let store = place.open(2).await;
    let rows = store.rows("select count(*) as n from grants", &[]).await.unwrap();
    assert_eq!(rows[0]["n"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_read_as_tables_json_and_csv() {
    let server = Server::start().await;
    let mission = server.run("talk", &json!({"prompt": "Hello"})).await;
    let environment = [("BURSAR_URL", server.base.as_str()), ("BURSAR_API_KEY", server.ours.key.as_str())];
    let wallet = server.get("/v1/wallet").await.expect(200);
    let says = async |arguments: &[&str], wanted: &[&str]| {
        let said = run(&environment, &[&["wallet"], arguments].concat()).await;
        assert!(said.ok, "{arguments:?}: {said:?}");
        for words in wanted {
            assert!(said.out.contains(words), "{arguments:?} lacks {words}: {}", said.out);
        }
        said.out
    };
    let available = wallet["available"].as_str().unwrap();
    says(&["show"], &[available, "spent/day", "charge_failed"]).await;
    let shown: Value = serde_json::from_str(&says(&["show", "--json"], &[]).await).unwrap();
    assert_eq!(shown, wallet);
    says(&["entries"], &["CREATED", "issue", "grant:grt_", "100.000000", "usage"]).await;
    let listed = says(&["transactions"], &["charge", "-2.000000", "start", available]).await;
    assert_eq!(listed.lines().count(), 4, "a head, two charges, a grant: {listed}");
    says(&["transactions", "--holds", "--kind", "hold"], &["hold", "0.000000"]).await;
    says(&["transactions", "--limit", "1"], &["there are more"]).await;
    says(&["transactions", "--csv"], &["id,created_at,kind,amount", "\r\n"]).await;
    let id = mission["id"].as_str().unwrap();
    let of_mission: Value =
        serde_json::from_str(&says(&["entries", "--json", "--mission", id, "--limit", "500"], &[]).await).unwrap();
    assert!(of_mission["data"].as_array().unwrap().iter().all(|entry| entry["mission_id"] == id));
    says(&["statement"], &["opening", "granted", "fees", "closing", available]).await;
    says(&["usage", "--by", "workflow"], &["WORKFLOW", "talk", "total", "BILLED"]).await;
    says(&["grants"], &["paid", "100.000000"]).await;
    says(&["holds"], &["HOLD"]).await;
    let wrong = run(&environment, &["wallet", "statement", "May"]).await;
    assert!(!wrong.ok && wrong.err.contains("write it as 2026-01"), "{wrong:?}");
    let forbidden = run(&environment, &["wallet", "show", "--tenant", &server.other.id.to_string()]).await;
    assert!(!forbidden.ok && forbidden.err.contains("403"), "{forbidden:?}");
    let admin = [("BURSAR_URL", server.base.as_str()), ("BURSAR_API_KEY", server.admin.as_str())];
    let other = run(&admin, &["wallet", "show", "--tenant", &server.other.id.to_string()]).await;
    assert!(other.ok && other.out.contains("100.000000"), "{other:?}");
}
