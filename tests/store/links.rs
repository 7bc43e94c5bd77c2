//! Callback links in both stores: found by the hash of their secret, forgotten when they are long over.

use bursar::store::{CallbackLink, StoreError};
use bursar_domain::id::Id;
use bursar_domain::time::Timestamp;
use uuid::Uuid;

use crate::support::stores::{Place, on_both_stores};

on_both_stores!(Place::empty:
    a_link_is_found_by_the_hash_of_its_secret_until_it_is_long_over,
    a_link_is_for_one_thing,
);

fn id<K>() -> Id<K>
where
    K: bursar_domain::id::Kind,
{
    Id::from_uuid(Uuid::now_v7())
}

fn link() -> CallbackLink {
    let at = Timestamp::from_ms;
    CallbackLink {
        id: id(),
        tenant_id: id(),
        mission_id: id(),
        task_id: Some(id()),
        asked_at: Some(at(5)),
        signal: None,
        decisions: "approved".into(),
        created_by: id(),
        created_at: at(10),
        expires_at: at(1_000),
    }
}

async fn a_link_is_found_by_the_hash_of_its_secret_until_it_is_long_over(place: Place) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    let (first, second) =
        (link(), CallbackLink { task_id: None, asked_at: None, signal: Some("paid".into()), ..link() });
    store.add_link(&first, "hash 1").await.unwrap();
    store.add_link(&second, "hash 2").await.unwrap();
    assert_eq!(store.link_by_hash("hash 1").await.unwrap(), Some(first.clone()));
    assert_eq!(store.link_by_hash("hash 2").await.unwrap(), Some(second));
    assert_eq!(store.link_by_hash("hash 3").await.unwrap(), None);
    let same = CallbackLink { id: id(), ..first };
    assert!(matches!(store.add_link(&same, "hash 1").await, Err(StoreError::Conflict(_) | StoreError::Refused(_))));
    let week = 7 * 86_400_000;
    assert_eq!(store.forget_links(Timestamp::from_ms(1_000 + week - 1), 100).await.unwrap(), 0);
    assert_eq!(store.forget_links(Timestamp::from_ms(1_000 + week), 1).await.unwrap(), 1);
    assert_eq!(store.forget_links(Timestamp::from_ms(1_000 + week), 100).await.unwrap(), 1);
    assert_eq!(store.link_by_hash("hash 1").await.unwrap(), None);
}

async fn a_link_is_for_one_thing(place: Place) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    for broken in [
        CallbackLink { signal: Some("paid".into()), ..link() },
        CallbackLink { asked_at: None, ..link() },
        CallbackLink { task_id: None, asked_at: None, ..link() },
        CallbackLink { expires_at: Timestamp::from_ms(10), ..link() },
    ] {
        assert!(store.add_link(&broken, "hash").await.is_err(), "{broken:?}");
    }
    store.add_link(&link(), "hash").await.unwrap();
}
