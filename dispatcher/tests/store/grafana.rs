//! The Grafana dashboard asks for nothing that is not there: its SQL runs on the real schema, its
//! metrics are those that a dispatcher exposes.

use std::collections::BTreeSet;

use serde_json::Value;
use windlass_dispatcher::metrics::{Kind, Metrics, ShardLabel};

use crate::backend::{Backend, T0, databases, plan, with_row};

databases! {
    every: [],
    servers: [
        every_query_of_the_dashboard_runs,
    ]
}

const DASHBOARD: &str = include_str!("../../../board/grafana/windlass.json");

/// All values of a field of the panels' targets.
fn targets(field: &str) -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    let texts = targets.filter_map(|target| target[field].as_str().map(str::to_owned));
    texts.collect()
}

async fn every_query_of_the_dashboard_runs(backend: &Backend) {
    let store = backend.store(1).await;
    let (mut owner, at) = backend.owner(&store, 0).await;
    let rows = with_row(plan(0, &at), T0, "Hunan", &[100], 1);
    owner.commit(&rows).await.unwrap();
    let queries = targets("rawSql");
    assert!(queries.len() >= 4, "{queries:?}");
    let range = "window_start BETWEEN '2025-11-11 00:00:00' AND '2025-11-11 00:01:00'";
    for query in queries {
        let sql = query.replace("$__timeFilter(window_start)", range);
        assert!(
            !sql.contains('$'),
            "a macro that the test does not know: {sql}"
        );
        assert_eq!(backend.sql(&sql).await.len(), 1, "{sql}");
    }
}

#[test]
fn every_metric_of_the_dashboard_is_exposed() {
    let metrics = Metrics::default();
    // A family shows once it has a member.
    let kind = Kind { kind: "counted" };
    for family in [&metrics.tuples, &metrics.passed_by, &metrics.attempts] {
        family.get_or_create(&kind).inc();
    }
    for family in [&metrics.queue_ready, &metrics.owned] {
        family.get_or_create(&ShardLabel { shard: 0 }).set(1);
    }
    let text = metrics.text();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let exposed: BTreeSet<&str> = samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let expressions = targets("expr");
    assert!(expressions.len() >= 8, "{expressions:?}");
    for expression in expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = words.filter(|word| word.starts_with("windlass_")).collect();
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(exposed.contains(name), "{name} is not among {exposed:?}");
        }
    }
}
