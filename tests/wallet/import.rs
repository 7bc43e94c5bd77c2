//! Wallets come in from a file: all of it or nothing, once however often it is given.

use bursar::clock::new_id;
use bursar::import::{Fault, Plan, Written, plan, read};
use bursar::store::Want;
use bursar_domain::credits::Ucr;
use bursar_domain::ledger::{GrantRequest, grant};
use bursar_domain::time::Timestamp;
use bursar_domain::working_set::WorkingSet;

use crate::support::stores::{Storage, on_both_stores};
use crate::support::world::{Queues, World};

on_both_stores!(world:
    a_file_gives_each_line_once,
    the_same_id_with_another_amount_is_refused_by_its_line,
    a_file_with_one_mistake_writes_nothing,
    older_credits_are_drawn_first,
    a_file_that_was_cut_off_is_finished_by_the_same_file,
    a_line_that_expired_since_it_was_imported_is_still_known,
);

async fn world(storage: Storage) -> World {
    World::new(storage, Queues::Memory).await
}

const FILE: &str = "\
tenant,id,kind,amount,created_at,expires_at,reason
acme,tx-1,paid,100,2024-03-01,,bought
zeta,tx-2,promo,2.5,2024-01-01T10:00:00Z,2999-01-01,
acme,tx-3,promo,0.000001,2024-02-01,,
first,tx-4,included,7,2024-02-02,,
";

async fn planned(world: &World, text: &str) -> Result<Plan, Vec<Fault>> {
    let rows = read(text.as_bytes(), world.engine().clock().now())?;
    plan(world.engine(), rows).await.unwrap()
}

async fn import(world: &World, text: &str) -> Written {
    planned(world, text).await.unwrap().write(world.engine(), || ()).await.unwrap()
}

async fn available(world: &World, tenant: &str) -> Option<Ucr> {
    let store = world.store();
    let id = store.tenant_named(tenant).await.unwrap()?;
    Some(store.wallet_of(id, world.engine().clock().now()).await.unwrap()?.available_ucr)
}

async fn rows_of(world: &World, table: &str) -> i64 {
    let rows = world.store().rows(&format!("select count(*) as n from {table}"), &[]).await.unwrap();
    rows[0]["n"].as_i64().unwrap()
}

async fn refused(world: &World, text: &str) -> Vec<String> {
    planned(world, text).await.unwrap_err().iter().map(Fault::to_string).collect()
}

async fn a_file_gives_each_line_once(world: World) {
    let plan = planned(&world, FILE).await.unwrap();
    assert_eq!((plan.new.len(), plan.known, plan.tenants, plan.amount()), (4, 0, 3, Ucr::new(109_500_001)));
    assert_eq!(plan.new_tenants.iter().map(String::as_str).collect::<Vec<_>>(), ["acme", "zeta"]);
    assert_eq!(rows_of(&world, "ops").await, 0, "a plan writes nothing");
    let mut told = 0;
    let written = plan.write(world.engine(), || told += 1).await.unwrap();
    assert_eq!((written, told), (Written { grants: 4, amount: Ucr::new(109_500_001) }, 4));
    assert_eq!(available(&world, "acme").await, Some(Ucr::new(100_000_001)));
    assert_eq!(available(&world, "zeta").await, Some(Ucr::new(2_500_000)));
    assert_eq!(available(&world, "first").await, Some(Ucr::from_credits(7)), "a wallet that was there is used");

    let before = world.store().rows("select * from ops order by id", &[]).await.unwrap();
    assert_eq!(import(&world, FILE).await, Written::default());
    assert_eq!(planned(&world, FILE).await.unwrap().known, 4);
    assert_eq!(world.store().rows("select * from ops order by id", &[]).await.unwrap(), before);
    assert_eq!(rows_of(&world, "tenants").await, 3);
    let grants = world.store().rows("select reason, kind from grants order by amount_ucr desc", &[]).await.unwrap();
    assert_eq!(grants[0]["reason"], "imported, dated 2024-03-01T00:00:00.000Z: bought");
    assert_eq!(grants[0]["kind"], "paid");
    assert!(bursar::verify::verify(world.store()).await.unwrap().is_clean());
}

async fn the_same_id_with_another_amount_is_refused_by_its_line(world: World) {
    import(&world, FILE).await;
    let faults = refused(&world, &FILE.replace("tx-1,paid,100", "tx-1,paid,101")).await;
    let [fault] = faults.as_slice() else { panic!("{faults:?}") };
    assert!(
        fault.starts_with("line 2, column amount: `tx-1` was granted before with 100.000000 credits (grt_"),
        "{fault}"
    );
    for (was, is) in [("tx-1,paid", "tx-1,promo"), ("2999-01-01", "2998-01-01")] {
        let faults = refused(&world, &FILE.replace(was, is)).await;
        assert!(faults.len() == 1 && faults[0].contains("column id: "), "{faults:?}");
    }
    assert_eq!(available(&world, "acme").await, Some(Ucr::new(100_000_001)));
}

async fn a_file_with_one_mistake_writes_nothing(world: World) {
    for (line, told) in [
        ("acme,tx-9,paid,1,2024-01-01,2024-06-01,\n", "line 6, column expires_at: lies in the past"),
        ("acme,tx-9,paid,9223372036854,2024-01-01,,\n", "line 2, column amount: the wallet would have more"),
        ("ten_01h455vb4pex5vsknk084sn02q,tx-9,paid,1,2024-01-01,,\n", "line 6, column tenant: there is no tenant ten_"),
    ] {
        let faults = refused(&world, &format!("{FILE}{line}")).await;
        assert!(faults.len() == 1 && faults[0].starts_with(told), "{faults:?}");
    }
    assert_eq!((rows_of(&world, "ops").await, rows_of(&world, "tenants").await), (0, 1));
}

async fn older_credits_are_drawn_first(world: World) {
    import(&world, FILE).await;
    let store = world.store();
    let now = world.engine().clock().now();
    let acme = store.tenant_named("acme").await.unwrap().unwrap();
    let wallet = store.wallet_of(acme, now).await.unwrap().unwrap().id;
    let lines = [3, 1, 2].map(|day| format!("{acme},day-{day},paid,{day},2023-01-0{day}\n"));
    let text = format!("tenant,id,kind,amount,created_at\n{}", lines.concat());
    import(&world, &text).await;
    let grants = store.grants_in_draw_order(wallet, now, 10).await.unwrap();
    let amounts: Vec<i64> = grants.iter().map(|grant| grant.amount_ucr.get()).collect();
    assert_eq!(amounts, [1, 100_000_000, 1_000_000, 2_000_000, 3_000_000], "free first, then as they came; by date");
}

async fn a_file_that_was_cut_off_is_finished_by_the_same_file(world: World) {
    let mut plan = planned(&world, FILE).await.unwrap();
    plan.new.truncate(2);
    plan.write(world.engine(), || ()).await.unwrap();
    let rest = planned(&world, FILE).await.unwrap();
    assert_eq!((rest.new.len(), rest.known), (2, 2));
    rest.write(world.engine(), || ()).await.unwrap();
    assert_eq!(planned(&world, FILE).await.unwrap().new.len(), 0);
    assert_eq!(available(&world, "acme").await, Some(Ucr::new(100_000_001)));
}

async fn a_line_that_expired_since_it_was_imported_is_still_known(world: World) {
    let past = "tenant,id,kind,amount,created_at,expires_at\nacme,tx-1,promo,5,2024-01-01,2025-01-01\n";
    let then = Timestamp::from_ms(1_720_000_000_000);
    let rows = read(past.as_bytes(), then).unwrap();
    let row = rows.first().unwrap();
    let (_, wallet_id) = bursar::boot::ensure_tenant(world.engine(), "acme").await.unwrap();
    // as it was written then, when its deadline was in the future
    let request = GrantRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id,
        kind: row.kind,
        priority: 50,
        amount: row.amount,
        expires_at: row.expires_at,
        reason: None,
        cost_basis_uusd: None,
        actor: None,
        reference: row.id.clone(),
    };
    let mut give = |set: &mut WorkingSet| {
        grant(set, &request, then).unwrap();
    };
    world.store().transact(&Want::wallets([wallet_id]), &mut give).await.unwrap();
    let again = planned(&world, past).await.unwrap();
    assert_eq!((again.new.len(), again.known), (0, 1));
}
