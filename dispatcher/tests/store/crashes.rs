//! A process killed at each step of a commit: the commit is there or not there, never in part, and
//! the next owner goes on. Needs the `failpoints` feature.
//!
//! The process is this test's own program, started again to run one test that is a no-op by itself.

use std::os::unix::process::ExitStatusExt as _;

use windlass_dispatcher::plan::Loaded;
use windlass_dispatcher::store::Store;
use windlass_functions::stream::Stream;

use crate::backend::{Backend, LEASE, T0, databases, plan, source, with_row};

databases! {
    every: [a_process_killed_in_a_commit_leaves_all_of_it_or_nothing],
    servers: []
}

const URL: &str = "WINDLASS_TEST_CRASH_URL";

async fn a_process_killed_in_a_commit_leaves_all_of_it_or_nothing(backend: &Backend) {
    let store = backend.store(1).await;
    let mut commits = 0;
    for (point, committed) in [
        ("commit.before", false),
        ("commit.after-fence", false),
        ("commit.before-commit", false),
        ("commit.after-commit", true),
    ] {
        let died = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crashes::commits_once_when_it_is_told_where"])
            .env(URL, &backend.url)
            .env("FAILPOINTS", format!("{point}=return"))
            .stdout(std::process::Stdio::null())
            .status()
            .await
            .unwrap();
        assert_eq!(died.signal(), Some(9), "{point}: {died}");
        commits += u64::from(committed);
        let (_, found) = backend.owner(&store, 0).await;
        assert_eq!(found.commit_no, commits, "{point}");
        let audit = store.audit(&Stream::default()).await.unwrap();
        let counted: i64 = audit.sources.iter().map(|source| source.counted).sum();
        let orders = backend
            .sql("SELECT COALESCE(SUM(orders), 0) FROM results")
            .await;
        assert_eq!(
            (counted.cast_unsigned(), &orders[0]),
            (commits, &commits.to_string())
        );
    }
}

/// What the killed process runs.
#[tokio::test]
async fn commits_once_when_it_is_told_where() {
    let Ok(url) = std::env::var(URL) else {
        return;
    };
    let _scenario = windlass_dispatcher::failpoint::scenario();
    let store = Store::connect(&url).await.unwrap();
    let mut owner = store.writer(&Stream::default(), 0, "crash", LEASE);
    let at: Loaded = owner.raise_epoch().await.unwrap();
    let mut next = with_row(plan(0, &at), T0, "Hunan", &[1], 0);
    let mut delta = source("till-1", at.active_sources.is_empty(), 1);
    delta.counted = 1;
    next.sources.push(delta);
    owner.commit(&next).await.unwrap();
}
