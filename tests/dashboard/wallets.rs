//! Pages about credits: who sees which wallet, and what stands there.

use axum::http::StatusCode;
use bursar::store::Role;
use bursar::stream::FrameBody;
use serde_json::json;

use super::site::{Site, until};

const TALK: &str = "
workflow: talk
flat_fee: 2
agents: { bot: { instructions: 'You help.' } }
nodes:
  say: { agent: bot, prompt: '{{ inputs.prompt }}', model: simulated-small }
";

#[tokio::test]
async fn operators_see_all_wallets_and_a_tenant_its_own() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let other = site.tenant("other", Role::User).await;
    let root = site.tenant("root", Role::Admin).await;
    let (of_acme, of_other) =
        (format!("/dashboard/wallets/{}", acme.wallet), format!("/dashboard/wallets/{}", other.wallet));
    let (mine, all) = (site.sign_in(&acme).await, site.sign_in(&root).await);

    let list = site.get("/dashboard/wallets", &mine).await.body;
    assert!(list.contains(&of_acme) && !list.contains(&of_other) && !list.contains("root"), "{list}");
    let list = site.get("/dashboard/wallets", &all).await.body;
    assert!(list.contains(&of_acme) && list.contains(&of_other), "{list}");

    for path in [of_other.clone(), format!("/dashboard/ledger?wallet={}", other.wallet)] {
        assert_eq!(site.get(&path, &mine).await.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(site.get(&path, &all).await.status, StatusCode::OK, "{path}");
        assert_eq!(site.get(&path, "").await.status, StatusCode::SEE_OTHER, "{path}");
    }
    for path in ["/dashboard/wallets/nothing", "/dashboard/ledger?wallet=nothing"] {
        assert_eq!(site.get(path, &all).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert!(site.get("/dashboard/ledger", &mine).await.body.contains("Ledger of acme"), "ones own where none is named");
}

#[tokio::test]
async fn many_wallets_come_page_by_page() {
    let site = Site::start().await;
    let root = site.tenant("root", Role::Admin).await;
    let mut wallets = vec![root.wallet];
    for number in 0..55 {
        wallets.push(site.tenant(&format!("tenant {number}"), Role::User).await.wallet);
    }
    let cookie = site.sign_in(&root).await;
    let first = site.get("/dashboard/wallets", &cookie).await.body;
    let last = first.split("/dashboard/wallets?before=").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let second = site.get(&format!("/dashboard/wallets?before={last}"), &cookie).await.body;
    for wallet in &wallets {
        let link = format!("href=\"/dashboard/wallets/{wallet}\"");
        assert!(first.contains(&link) != second.contains(&link), "{wallet} is on one of the pages");
    }
    assert!(second.contains("tenant 0<") && !second.contains("Older"));
}

#[tokio::test]
async fn a_wallet_shows_what_it_has_and_where_it_goes() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    site.grant(&acme, 7, 10, "a gift to be drawn first").await;
    let done = site.run(&acme, TALK, json!({"prompt": "hello"})).await;
    let (stalls, mut watch) = site.submit(&acme, TALK, json!({"prompt": "[[simulate stall after_tokens=2]]"})).await;
    until(&mut watch, |body| matches!(body, FrameBody::Delta { .. })).await;
    let sql =
        "update wallets set day_limit_ucr = 2000001, overrun = 'absorb', frozen = 1, day_spent_ucr = 2000000, day = $1";
    let today = i64::from(bursar::calendar::day_number(site.app.engine.clock().now()));
    site.app.engine.store().execute(sql, &[today.into()]).await.unwrap();

    let page = site.get(&format!("/dashboard/wallets/{}", acme.wallet), &site.sign_in(&acme).await).await.body;
    let section = |id: &str| {
        let rest =
            page.split(&format!("<section class=\"card\" id=\"{id}\"")).nth(1).unwrap_or_else(|| panic!("no {id}"));
        rest.split("</section>").next().unwrap().to_owned()
    };
    let grants = section("grants");
    let (gift, paid) = (grants.find("a gift to be drawn first").unwrap(), grants.find("paid").unwrap());
    assert!(gift < paid, "in draw order: {grants}");
    let holds = section("holds");
    assert!(holds.contains("flat fee") && holds.contains("<code>say</code>"), "{holds}");
    assert_eq!(holds.matches(&format!("href=\"/dashboard/missions/{stalls}\"")).count(), 2, "{holds}");
    let transactions = section("transactions");
    assert!(transactions.contains("−2.00") && transactions.contains("+1,000.00"), "{transactions}");
    assert!(transactions.contains(&format!("/dashboard/missions/{done}")) && !transactions.contains(">hold<"));
    let models = section("models");
    assert!(models.contains("simulated/simulated-small") && models.contains("<td class=\"n\">2</td>"), "{models}");
    assert!(page.contains("is paid by the platform") && page.contains("are never charged"));
    assert!(
        page.contains("99 % of the day's limit is used") || page.contains("99 % of the day&#39;s limit is used"),
        "{page}"
    );
    assert!(page.contains("this wallet is frozen"));
    assert!(page.contains("data-parts=\"/dashboard/wallets/") && page.contains("data-poll-ms="));
    let part =
        site.get(&format!("/dashboard/wallets/{}?part=live", acme.wallet), &site.sign_in(&acme).await).await.body;
    assert!(part.contains("id=\"holds\"") && !part.contains("<html"));
}

#[tokio::test]
async fn the_ledger_is_filtered_by_its_address_and_leads_to_what_it_is_about() {
    let site = Site::start().await;
    let acme = site.tenant("acme", Role::User).await;
    let done = site.run(&acme, TALK, json!({"prompt": "hello"})).await;
    let mut last = done;
    for _ in 0..12 {
        last = site.run(&acme, TALK, json!({"prompt": "hello"})).await;
    }
    let cookie = site.sign_in(&acme).await;
    let ledger = async |query: &str| site.get(&format!("/dashboard/ledger?{query}"), &cookie).await.body;
    let ops = |body: &str| body.matches("<tr id=\"ent_").count();

    let of_mission = ledger(&format!("mission={done}")).await;
    assert!(ops(&of_mission) >= 4, "a hold and a settle for the fee and for the task: {of_mission}");
    assert!(of_mission.contains(&format!("href=\"/dashboard/missions/{done}#task-say\"")), "{of_mission}");
    assert!(!of_mission.contains(&last.to_string()));
    assert!(of_mission.contains("usage <strong>") && of_mission.contains("fee <strong>2.00</strong>"), "{of_mission}");
    let grants = ledger("kind=grant").await;
    assert!(ops(&grants) == 1 && grants.contains("issue → ") && grants.contains("1,000.00"), "{grants}");
    assert_eq!(ops(&ledger("to=2001-01-01").await), 0);
    assert!(ops(&ledger("from=2001-01-01").await) > 1);

    let first = ledger("").await;
    assert_eq!(ops(&first), 50);
    let links = first.split("href=\"/dashboard/ledger?").skip(1).map(|rest| rest.split('"').next().unwrap());
    let next = links.into_iter().find(|link| link.contains("before=")).expect("older").replace("&amp;", "&");
    let second = ledger(&next).await;
    assert!(ops(&second) > 0 && second.contains("← Newest"), "{next}");
    let ids = |body: &str| -> Vec<String> {
        body.split("<tr id=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    assert!(ids(&second).iter().all(|id| !ids(&first).contains(id)), "no entry twice");
    assert!(ledger("from=2001-01-01").await.contains("&amp;from=2001-01-01&amp;before="), "paging keeps the filters");
}
