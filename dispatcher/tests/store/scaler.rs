//! What a scaler keeps: decisions, tables, its state.

use windlass_dispatcher::store::{DecisionRow, Followed, Journal, ScalerState, TableRow};
use windlass_functions::stream::Stream;

use crate::backend::{Backend, T0, databases};

databases! {
    every: [
        decisions_are_read_back_with_the_reward_that_followed,
        a_decision_told_twice_is_kept_once,
        tables_are_versions_and_old_checkpoints_go,
        the_state_is_one_row,
        scalers_of_two_streams_do_not_meet,
        several_may_make_the_tables_at_once,
    ],
    servers: []
}

async fn journal(backend: &Backend) -> Journal {
    backend.store(1).await.journal(&Stream::default())
}

pub fn row(no: u64) -> DecisionRow {
    DecisionRow {
        at_ms: T0 + 1_000 * no as i64,
        run: T0,
        no,
        generation: 3,
        mode: "elastic".into(),
        before: 4,
        desired: 9,
        cause: "agent".into(),
        reason: "4 → 9: it's 'quoted' \\ and\nbroken".into(),
        state: Some(17),
        bins: Some("1,0,2".into()),
        q_values: Some("κ×0.56=-0.3".into()),
        action: Some("κ×0.56".into()),
        explored: Some(true),
        guards: "max".into(),
        reward_cost: None,
        reward_late: None,
        detail: "{}".into(),
        seconds: "1,2\n3,4".into(),
    }
}

async fn decisions_are_read_back_with_the_reward_that_followed(backend: &Backend) {
    let mut journal = journal(backend).await;
    assert_eq!(journal.decision(None, false).await.unwrap(), None);
    journal.decided(&row(1), None).await.unwrap();
    let followed = Followed {
        no: 1,
        // SQLite answers with fifteen digits, which is enough for an explanation.
        cost: -0.300_625,
        late: -1e-17,
    };
    let held = DecisionRow {
        cause: "none".into(),
        state: None,
        explored: None,
        action: None,
        ..row(2)
    };
    journal.decided(&held, Some(followed)).await.unwrap();
    let known = DecisionRow {
        reward_cost: Some(followed.cost),
        reward_late: Some(followed.late),
        ..row(1)
    };
    let all = journal.decisions(T0, 0, 10).await.unwrap();
    assert_eq!(all, [known.clone(), held.clone()]);
    let decisions = journal.decisions(T0, 1, 10).await.unwrap();
    assert_eq!(decisions, std::slice::from_ref(&held));
    assert_eq!(journal.decision(None, false).await.unwrap(), Some(held));
    let chosen = journal.decision(None, true).await.unwrap();
    assert_eq!(chosen, Some(known.clone()), "the last that an agent chose");
    let at = journal.decision(Some(T0 + 1_999), false).await.unwrap();
    assert_eq!(at, Some(known));
    assert_eq!(journal.decision(Some(T0), false).await.unwrap(), None);
    assert_eq!(journal.runs(5).await.unwrap(), [(T0, 2)]);
    assert_eq!(journal.forget(T0 + 2_000, 10).await.unwrap(), 1);
    assert_eq!(journal.runs(5).await.unwrap(), [(T0, 1)]);
}

async fn a_decision_told_twice_is_kept_once(backend: &Backend) {
    let mut journal = journal(backend).await;
    for _ in 0..2 {
        journal.decided(&row(1), None).await.unwrap();
    }
    assert_eq!(journal.decisions(T0, 0, 10).await.unwrap(), [row(1)]);
}

async fn tables_are_versions_and_old_checkpoints_go(backend: &Backend) {
    let mut journal = journal(backend).await;
    let table = |kind: &str| TableRow {
        agent: "elastic".into(),
        version: 0,
        at_ms: T0,
        kind: kind.into(),
        layout: "75a1b61b96e8995a".into(),
        tuning: "mode: elastic\n".into(),
        decisions: 12,
        body: "windlass-scaler-table 1\n…".into(),
    };
    assert_eq!(journal.table("elastic", None).await.unwrap(), None);
    assert_eq!(journal.save_table(&table("start")).await.unwrap(), 1);
    assert_eq!(journal.save_table(&table("import")).await.unwrap(), 2);
    for version in 3..=110 {
        let saved = journal.save_table(&table("checkpoint")).await.unwrap();
        assert_eq!(saved, version);
    }
    let newest = journal.table("elastic", None).await.unwrap().unwrap();
    let expected = TableRow {
        version: 110,
        ..table("checkpoint")
    };
    assert_eq!(newest, expected);
    let listed = journal.tables("elastic", 1_000).await.unwrap();
    assert_eq!(listed.len(), 102, "a hundred checkpoints, and what is none");
    assert!(listed.iter().all(|table| table.body.is_empty()));
    let brought = journal.brought_in("elastic", 1).await.unwrap().unwrap();
    assert_eq!((brought.version, brought.kind.as_str()), (2, "import"));
    assert_eq!(journal.brought_in("elastic", 2).await.unwrap(), None);
    assert_eq!(journal.table("paper", None).await.unwrap(), None);
    let begun = journal.table_of_run("elastic", T0).await.unwrap().unwrap();
    assert_eq!(begun.version, 1);
}

async fn the_state_is_one_row(backend: &Backend) {
    let mut journal = journal(backend).await;
    assert_eq!(journal.state().await.unwrap(), None);
    let mut state = ScalerState {
        run: T0,
        owner: "host-1".into(),
        pool: "local".into(),
        mode: "elastic".into(),
        generation: 1,
        tuning: "max-size: 9\n".into(),
        refused: Some("max-size: expected pods, got \"none\"".into()),
        refused_tuning: Some("max-size: none\n".into()),
        refused_total: 7,
        size: 4,
        reason: "4 → 4".into(),
        ..ScalerState::default()
    };
    journal.alive(&state).await.unwrap();
    state.generation = 2;
    state.refused = None;
    journal.alive(&state).await.unwrap();
    let (kept, age_ms) = journal.state().await.unwrap().unwrap();
    assert!((0..10_000).contains(&age_ms), "{age_ms}");
    let kept = ScalerState { at_ms: 0, ..kept };
    assert_eq!(kept, state);
}

async fn scalers_of_two_streams_do_not_meet(backend: &Backend) {
    let store = backend.store(1).await;
    let mut shipped = store.journal(&Stream::default());
    let mut other = store.journal(&Stream {
        name: "returns".into(),
        ..Stream::default()
    });
    shipped.decided(&row(1), None).await.unwrap();
    other.decided(&row(1), None).await.unwrap();
    other
        .decided(
            &row(2),
            Some(Followed {
                no: 1,
                cost: 1.0,
                late: 0.0,
            }),
        )
        .await
        .unwrap();
    assert_eq!(shipped.decisions(T0, 0, 10).await.unwrap(), [row(1)]);
    assert_eq!(other.decisions(T0, 0, 10).await.unwrap().len(), 2);
}

async fn several_may_make_the_tables_at_once(backend: &Backend) {
    let store = backend.store(1).await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let mut journal = store.journal(&Stream::default());
            tokio::spawn(async move { journal.prepare().await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    store.check(&Stream::default(), 1).await.unwrap();
}
