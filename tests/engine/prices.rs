//! Which price book is active: never another one by itself.

use std::sync::Arc;

use bursar::boot;
use bursar::clock::{Clock, new_token};
use bursar::engine::Engine;
use bursar::queue::MemoryQueue;
use bursar::stream::{Hub, Relay};
use bursar_domain::pricing::PriceBook;
use serde_json::json;

fn book(name: &str) -> PriceBook {
    PriceBook::from_value(json!({"name": name})).unwrap()
}

async fn active(engine: &Engine) -> String {
    engine.active_prices().await.unwrap().unwrap().1.name().to_owned()
}

#[tokio::test]
async fn an_upgrade_changes_no_live_prices_and_a_configured_book_is_taken_once() {
    let file = std::env::temp_dir().join(format!("bursar-prices-{}.db", new_token()));
    let store = bursar::store::open(&format!("sqlite://{}", file.display()), 2).await.unwrap();
    let relay = Relay::local(Arc::new(Hub::default()));
    let engine = Engine::new(store, Arc::new(MemoryQueue::default()), relay, Arc::new(Clock::new()));
    assert!(boot::migrate(&engine, &book("built-in-1"), false).await.unwrap(), "the first one is taken");
    assert!(!boot::migrate(&engine, &book("built-in-2"), false).await.unwrap());
    assert_eq!(active(&engine).await, "built-in-1");
    assert!(boot::migrate(&engine, &book("ours-1"), true).await.unwrap(), "an operator wrote it");
    assert_eq!(active(&engine).await, "ours-1");
    // somebody activates another; the next deploy leaves it
    let other = engine.publish_prices(&book("built-in-2")).await.unwrap();
    assert!(!other.created);
    engine.activate_price_book(other.id).await.unwrap();
    assert!(!boot::migrate(&engine, &book("ours-1"), true).await.unwrap());
    assert_eq!(active(&engine).await, "built-in-2");
    assert!(boot::migrate(&engine, &book("built-in-2"), false).await.unwrap());
    assert_eq!(engine.store().price_book_list(None, 10).await.unwrap().len(), 3);
    engine.store().close().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", file.display()));
    }
}
