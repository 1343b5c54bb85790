//! The main job when nothing goes wrong.

use std::time::Duration;

use windlass_datagen::message::Format;
use windlass_datagen::publish::Speed;
use windlass_datagen::workload::Options;

use crate::harness::{Database, Site};

async fn orders_become_rows(database: Database, format: Format) {
    let Some(site) = Site::on("basics", database).await else {
        return;
    };
    let dispatcher = site.dispatch(&[]);
    let options = Options {
        rate: 4_000.0,
        duration_ms: 5_000,
        late: 0.001,
        ..Options::default()
    };
    let manifest = site.publish(options, format, Speed::Times(1.0)).await;
    let took = site.equals(&manifest, Duration::from_secs(30)).await;
    println!("settled {took:?} after the last confirm");
    drop(dispatcher);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_orders_become_rows_in_mariadb() {
    orders_become_rows(Database::MariaDb, Format::Json).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_orders_become_rows_in_mysql() {
    orders_become_rows(Database::MySql, Format::Ndjson).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrow_orders_become_rows_in_mysql() {
    orders_become_rows(Database::MySql, Format::Arrow).await;
}
