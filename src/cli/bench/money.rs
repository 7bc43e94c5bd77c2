//! Money alone: credits are held and settled, with nothing else around them.

use std::time::Instant;

use bursar_domain::credits::Ucr;
use bursar_domain::id::WalletId;
use bursar_domain::ledger::{GrantRequest, HoldRequest, Subject};
use bursar_domain::record::{GrantKind, HoldOwner};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};

use super::measure::Before;
use super::site::Site;
use crate::clock::new_id;

/// Cycles that are on their way at once, as from that many clients.
const CLIENTS: usize = 256;
const HELD: Ucr = Ucr::new(1_000);
const COST: Ucr = Ucr::new(640);

/// Cycles of one hold and one settle, over so many wallets: cycles per second.
pub(super) async fn cycles(site: &Site, wallets: usize, cycles: usize) -> anyhow::Result<Value> {
    let wallets = open(site, wallets).await?;
    let before = Before::take(site).await?;
    let start = Instant::now();
    let mut done = stream::iter(0..cycles)
        .map(|number| cycle(site, wallets[number % wallets.len()], number))
        .buffer_unordered(CLIENTS);
    while let Some(cycle) = done.next().await {
        cycle?;
    }
    let elapsed = start.elapsed();
    let mut figures = before.figures(site, cycles).await?;
    figures["wallets"] = json!(wallets.len());
    figures["cycles_per_s"] = json!(cycles as f64 / elapsed.as_secs_f64());
    Ok(figures)
}

async fn open(site: &Site, count: usize) -> anyhow::Result<Vec<WalletId>> {
    let mut wallets = Vec::with_capacity(count);
    for number in 0..count {
        let id = new_id();
        site.engine.open_wallet(id, site.tenant).await?;
        let grant = GrantRequest {
            id: new_id(),
            op_id: new_id(),
            wallet_id: id,
            kind: GrantKind::Paid,
            priority: 50,
            amount: Ucr::from_credits(1_000_000),
            expires_at: None,
            reason: None,
            cost_basis_uusd: None,
            actor: None,
            reference: format!("bench:{number}"),
        };
        site.engine.grant(&grant).await?;
        wallets.push(id);
    }
    Ok(wallets)
}

async fn cycle(site: &Site, wallet_id: WalletId, number: usize) -> anyhow::Result<()> {
    let request = HoldRequest {
        id: new_id(),
        op_id: new_id(),
        wallet_id,
        owner_kind: HoldOwner::Call,
        owner_id: format!("bench-{number}"),
        number: 1,
        amount: HELD,
        subject: Subject::default(),
        expires_at: Some(site.engine.clock().now().plus_ms(600_000)),
    };
    let hold = site.engine.hold_call(request).await?;
    let charged = site.engine.settle_call(wallet_id, hold, COST).await?;
    anyhow::ensure!(charged == COST, "{charged} credits were charged, not {COST}");
    Ok(())
}
