//! The schema: made by `migrate`, refused when it is older than the program, or newer and not for it.

use bursar::store::{self, StoreError};

use crate::support::stores::{Place, Storage, on_both_stores};

on_both_stores!(Place::empty:
    a_database_without_a_schema_is_too_old,
    migrating_twice_is_the_same_as_once,
    a_newer_schema_that_only_adds_is_used,
    a_newer_schema_whose_floor_is_above_the_program_is_refused,
    a_schema_has_one_floor,
    a_migration_that_did_not_finish_does_not_count,
);

async fn refusal(place: &Place) -> String {
    match place.open(2).await.check_schema().await {
        Err(StoreError::Schema(message)) => message,
        other => panic!("{other:?}"),
    }
}

async fn a_database_without_a_schema_is_too_old(place: Place) {
    let message = refusal(&place).await;
    assert!(message.contains("version 0") && message.contains("run `bursar migrate`"), "{message}");
}

async fn migrating_twice_is_the_same_as_once(place: Place) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    store.check_schema().await.unwrap();
    store.migrate().await.unwrap();
    store.check_schema().await.unwrap();
}

/// What a newer program's migration leaves behind, without the rest of what it does.
async fn pretend_newer(place: &Place, oldest_program: i64) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 select 9999, description, success, checksum, execution_time from _sqlx_migrations limit 1";
    store.execute(newer, &[]).await.unwrap();
    store.execute("update schema_floor set oldest_program = $1", &[oldest_program.into()]).await.unwrap();
}

async fn a_newer_schema_that_only_adds_is_used(place: Place) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    let known = store.check_schema().await.unwrap().known;
    pretend_newer(&place, known).await;
    let fit = store.check_schema().await.unwrap();
    assert_eq!((fit.applied, fit.known, fit.is_newer()), (9999, known, true));
    assert!(fit.to_string().contains("9999"), "doctor and log name it: {fit}");
    store.migrate().await.expect("an older program has nothing to add and says nothing");
}

async fn a_newer_schema_whose_floor_is_above_the_program_is_refused(place: Place) {
    pretend_newer(&place, 9999).await;
    let message = refusal(&place).await;
    assert!(message.contains("9999") && message.contains("run a newer bursar"), "{message}");
    assert!(place.open(2).await.migrate().await.is_err(), "an older program changes nothing either");
}

async fn a_schema_has_one_floor(place: Place) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    for sql in
        ["insert into schema_floor (id, oldest_program) values (2, 29)", "update schema_floor set oldest_program = 0"]
    {
        assert!(store.execute(sql, &[]).await.is_err(), "{sql}");
    }
}

async fn a_migration_that_did_not_finish_does_not_count(place: Place) {
    let store = place.open(2).await;
    store.migrate().await.unwrap();
    store.execute("update _sqlx_migrations set success = (1 = 0)", &[]).await.unwrap();
    let message = refusal(&place).await;
    assert!(message.contains("version 0"), "{message}");
}

#[tokio::test]
async fn a_url_of_another_kind_is_refused_by_name() {
    for url in ["mysql://localhost/bursar", "bursar.db", ""] {
        assert!(matches!(store::open(url, 2).await, Err(StoreError::BadUrl)), "{url}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    // port 1 answers nowhere
    let refused = store::open("postgres://postgres@127.0.0.1:1/postgres", 2).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let refused = store::open("sqlite:///proc/nowhere/bursar.db", 2).await;
    let Err(StoreError::Unavailable(message)) = refused else { panic!("{refused:?}") };
    assert!(message.contains("/proc/nowhere"), "{message}");
}

/// Names of tables and columns, without types: both engines have the same.
#[tokio::test]
async fn both_engines_have_the_same_tables_and_columns() {
    let sqlite = Place::migrated(Storage::Sqlite).await;
    let postgres = Place::migrated(Storage::Postgres).await;
    let of_sqlite = "
        select m.name as table_name, c.name as column_name from sqlite_master m, pragma_table_info(m.name) c
        where m.type in ('table', 'view') and m.name not like 'sqlite%' and m.name <> '_sqlx_migrations' order by 1, 2";
    let of_postgres = "
        select table_name, column_name from information_schema.columns
        where table_schema = 'public' and table_name <> '_sqlx_migrations' order by 1, 2";
    let mut a = sqlite.open(2).await.rows(of_sqlite, &[]).await.unwrap();
    let mut b = postgres.open(2).await.rows(of_postgres, &[]).await.unwrap();
    a.sort_by_key(ToString::to_string);
    b.sort_by_key(ToString::to_string);
    assert!(a.len() > 150);
    assert_eq!(a, b);
}
