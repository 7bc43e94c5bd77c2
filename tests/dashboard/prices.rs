//! The prices page: what things cost, what another book changes, who may activate it.

use axum::http::StatusCode;
use bursar::store::Role;
use bursar_domain::pricing::PriceBook;
use serde_json::{Value, json};

use super::site::Site;

/// The default book with one price and the name changed.
fn changed(name: &str) -> PriceBook {
    let mut book: Value = toml::from_str(include_str!("../../prices/default.toml")).unwrap();
    book["name"] = json!(name);
    for model in book["model"].as_array_mut().unwrap() {
        if model["name"] == "gpt-4.1" {
            model["rates"]["output"] = json!("9.00");
        }
    }
    PriceBook::from_value(book).unwrap()
}

#[tokio::test]
async fn everybody_sees_what_things_cost() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let cookie = site.sign_in(&acme).await;
    let page = site.get("/dashboard/prices", &cookie).await;
    assert_eq!(page.status, StatusCode::OK);
    // $8 a million tokens of output are 800 credits; the unit of steps a thousandth of a cent
    for text in ["default-2026-11-23", "gpt-4.1", "$8", "800.00", "batch", "above 272,000 tokens", "retrieval_query"] {
        assert!(page.body.contains(text), "{text}");
    }
    assert!(page.body.contains("href=\"/dashboard/prices\" aria-current=\"page\""));
    let filtered = site.get("/dashboard/prices?model=GPT-4.1-mini", &cookie).await.body;
    assert!(filtered.contains("gpt-4.1-mini") && !filtered.contains("claude-"), "{filtered}");
    let none = site.get("/dashboard/prices?model=%3Cscript%3E", &cookie).await.body;
    assert!(none.contains("No model of that name.") && !none.contains("\"<script>"), "{none}");
    assert_eq!(site.get("/dashboard/prices", "").await.location(), "/dashboard/login?next=/dashboard/prices");
}

#[tokio::test]
async fn an_admin_sees_what_a_book_changes_and_activates_it() {
    let site = Site::start().await;
    let root = site.tenant("root", Role::Admin).await;
    let acme = site.tenant("acme", Role::User).await;
    let (root, acme) = (site.sign_in(&root).await, site.sign_in(&acme).await);
    let other = site.app.engine.publish_prices(&changed("dearer<b>")).await.unwrap().id;
    let (before, _) = site.app.engine.active_prices().await.unwrap().unwrap();
    let path = format!("/dashboard/prices/{other}");
    assert!(site.get("/dashboard/prices", &acme).await.body.contains(&format!("href=\"{path}\"")));

    let seen = site.get(&path, &acme).await.body;
    for text in ["model gpt-4.1", "rates.output", "<td>8</td><td>9</td>", "dearer&lt;b&gt;"] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    assert!(!seen.contains("/activate"), "a user gets no button");
    let activate = format!("{path}/activate");
    assert_eq!(site.post(&activate, &acme, "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.app.engine.active_prices().await.unwrap().unwrap().0, before);

    assert!(site.get(&path, &root).await.body.contains(&format!("action=\"{activate}\"")));
    let done = site.post(&activate, &root, "").await;
    assert_eq!((done.status, done.location()), (StatusCode::SEE_OTHER, "/dashboard/prices"));
    assert_eq!(site.app.engine.active_prices().await.unwrap().unwrap().0, other);
    assert!(!site.get(&path, &root).await.body.contains("/activate"), "it is active");
}

#[tokio::test]
async fn a_book_that_does_not_exist_is_not_shown() {
    let site = Site::start().await;
    let root = site.tenant("root", Role::Admin).await;
    let cookie = site.sign_in(&root).await;
    for path in ["/dashboard/prices/prb_01h455vb4pex5vsknk084sn02q", "/dashboard/prices/x"] {
        assert_eq!(site.get(path, &cookie).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(site.post(&format!("{path}/activate"), &cookie, "").await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
