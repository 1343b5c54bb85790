//! Runs of datagen: one row a name, whoever starts it and however often; manifests of any size.

use windlass_dispatcher::store::{Claimed, RunEnd, RunState};

use crate::backend::{Backend, databases};

databases! {
    every: [
        a_run_that_is_started_again_keeps_its_first_options,
        a_manifest_of_any_size_comes_back_as_it_was,
    ],
    servers: []
}

async fn a_run_that_is_started_again_keeps_its_first_options(backend: &Backend) {
    let store = backend.store(1).await;
    let claim = |request, options| store.claim_run("orders", "nightly", request, options);
    let first = claim("--rate 5", "start 1").await.unwrap();
    let Claimed::Yours(first) = first else {
        panic!("{first:?}");
    };
    assert_eq!((first.attempt, first.options.as_str()), (1, "start 1"));
    let again = claim("--rate 5", "start 2").await.unwrap();
    let Claimed::Yours(again) = again else {
        panic!("{again:?}");
    };
    assert_eq!((again.attempt, again.options.as_str()), (2, "start 1"));
    let other = claim("--rate 6", "start 3").await.unwrap();
    assert!(matches!(other, Claimed::Taken(_)), "{other:?}");
    store.touch_run("orders", "nightly").await.unwrap();

    let mut end = RunEnd {
        interrupted: true,
        orders: 7,
        windows: Some((1_000, 5_000)),
    };
    store
        .end_run("orders", "nightly", b"half", &end)
        .await
        .unwrap();
    let stopped = store.run("orders", "nightly").await.unwrap().unwrap();
    assert_eq!(stopped.state, RunState::Interrupted);
    let resumed = claim("--rate 5", "start 3").await.unwrap();
    assert!(matches!(&resumed, Claimed::Yours(row) if row.state == RunState::Running));
    end.interrupted = false;
    store
        .end_run("orders", "nightly", b"all of it", &end)
        .await
        .unwrap();
    let ended = claim("--rate 5", "start 4").await.unwrap();
    let Claimed::Ended(ended) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!((ended.state, ended.orders), (RunState::Finished, 7));
    let windows = (ended.first_window, ended.last_window);
    assert_eq!(windows, (Some(1_000), Some(5_000)));
    assert!(ended.ended_at.is_some());
    assert_eq!(store.runs("orders").await.unwrap().len(), 1);
    assert_eq!(store.runs("returns").await.unwrap(), []);
    assert_eq!(store.run("returns", "nightly").await.unwrap(), None);
}

async fn a_manifest_of_any_size_comes_back_as_it_was(backend: &Backend) {
    let store = backend.store(1).await;
    store.claim_run("orders", "big", "", "").await.unwrap();
    for size in [3_000_000_usize, 48 << 10, 1, 0] {
        let manifest: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
        let end = RunEnd {
            interrupted: size == 1,
            orders: 0,
            windows: None,
        };
        store
            .end_run("orders", "big", &manifest, &end)
            .await
            .unwrap();
        let run = store.run("orders", "big").await.unwrap().unwrap();
        assert!(
            store.run_manifest(&run).await.unwrap() == manifest,
            "{size}"
        );
    }
    backend
        .sql("INSERT INTO datagen_manifests VALUES ('orders', 'big', 9, x'00')")
        .await;
    let run = store.run("orders", "big").await.unwrap().unwrap();
    let damaged = store.run_manifest(&run).await.unwrap_err().to_string();
    assert!(damaged.contains("0 parts"), "{damaged}");
}
