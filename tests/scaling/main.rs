//! The scaler with a running dispatcher and real worker processes, without any server: the pool
//! follows a step of load, an edit of the tuning, and what was learned before a restart; and every
//! command that looks at it.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are a shell: they read clocks"
)]

mod site;

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;
use windlass::values::Workers;

use site::{Site, decided_again, fails, fixed, replace, says, store_url};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_pool_follows_a_tenfold_step_and_loses_no_batch_by_scaling() {
    let site = Site::new(Workers::Auto, Some("max-size: 16\nlatency-goal: 1s\n")).await;
    site.rate.store(400, Ordering::Relaxed);
    tokio::time::sleep(12 * SECOND).await;
    let before = site.size();
    assert!(before <= 6, "{before}");

    site.rate.store(4_000, Ordering::Relaxed);
    let followed = site
        .until("the pool follows", 20 * SECOND, |site| {
            site.status().pool.unwrap().ready > before.max(4)
        })
        .await;
    let recovered = site.recovered(60 * SECOND).await;
    let peak = site.size();

    site.rate.store(400, Ordering::Relaxed);
    let shrunk = site
        .until("it shrinks again", 90 * SECOND, |site| {
            site.size() <= (peak / 2).max(before)
        })
        .await;
    site.rate.store(0, Ordering::Relaxed);
    site.until("all orders are settled", 20 * SECOND, |site| {
        site.status().tuples_settled >= site.published.load(Ordering::Relaxed)
    })
    .await;
    let status = site.status();
    assert_eq!(status.invocations.failed, 0, "no batch is lost to scaling");
    assert_eq!(status.invocations.handed_out, status.invocations.answered);
    eprintln!(
        "step ×10: {before} → {peak} workers, followed after {:.1} s, no window late from {:.1} s \
         later on, shrunk after {:.1} s",
        followed.as_secs_f64(),
        recovered.as_secs_f64(),
        shrunk.as_secs_f64()
    );

    // The rows are written behind the loop's back: those of the end are there after a drain.
    let site = site.restarted(Workers::Count(1), None).await;
    let verified = site.says(&["scaler", "replay", "--verify"]).await;
    let (seconds, decisions) = decided_again(&verified);
    // A choice every five seconds, none left out; what the step and its end took may fall into the same seconds.
    assert!(seconds >= 20 && decisions >= seconds / 5, "{verified}");
    let compared = site.says(&["scaler", "compare"]).await;
    for policy in [
        "actual",
        "elastic",
        "paper",
        "slo-ds2",
        "hpa-default",
        "keda-queue-tuned",
    ] {
        assert!(compared.contains(policy), "{policy} in\n{compared}");
    }
    eprintln!("{verified}{compared}");
}

/// Whether edits were in force within two seconds; the machine may have kept one of them waiting.
fn all_but_one_in_time(took: &[Duration]) -> bool {
    took.iter().filter(|took| **took >= 2 * SECOND).count() <= 1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edit_is_in_force_within_two_seconds_and_a_bad_one_is_refused_visibly() {
    let site = Site::new(
        Workers::Auto,
        Some("mode: static\nstatic-size: 2\ngap-caution: 0s\n"),
    )
    .await;
    site.until("the first tuning is in force", 10 * SECOND, |site| {
        site.size() == 2
    })
    .await;
    let tuning = site.tuning();
    let file = tuning.to_str().unwrap();
    let mut took = Vec::new();
    for size in [3, 2, 3] {
        replace(&tuning, &fixed(size));
        let edited = site.until("an edit is in force", 10 * SECOND, |site| {
            site.size() == size
        });
        took.push(edited.await);
    }
    assert!(all_but_one_in_time(&took), "{took:?}");

    let said = site
        .says(&["scaler", "set", "static-size=4", "--config", file])
        .await;
    assert!(said.starts_with("in force as generation 5"), "{said}");
    site.until("what was set", 5 * SECOND, |site| site.size() == 4)
        .await;
    let refused = site
        .fails(&["scaler", "set", "static-size=many", "--config", file])
        .await;
    assert!(
        refused.contains("nothing was changed: static-size: expected pods"),
        "{refused}"
    );

    replace(&tuning, "mode: best\nmax-size: none\n");
    site.until("a bad edit is refused", 5 * SECOND, |site| {
        site.server.scaling().unwrap().refused.is_some()
    })
    .await;
    let shown = site.until_says(&["scaler", "show"], "REFUSED").await;
    for said in [
        "mode: expected elastic",
        "max-size: expected pods",
        "static-size: 4",
    ] {
        assert!(shown.contains(said), "{said} in\n{shown}");
    }
    assert_eq!(site.size(), 4);
    let metrics = reqwest::get(format!("http://{}/metrics", site.server.address()));
    let metrics = metrics.await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("windlass_scaler_tuning_refused_total 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("windlass_scaler_tuning_edit_refused 1"),
        "{metrics}"
    );

    let mut took = Vec::new();
    for last in [5, 6, 5] {
        for edit in 0..99 {
            replace(&tuning, &fixed(1 + edit % 4));
        }
        replace(&tuning, &fixed(last));
        let followed = site.until("the last of a hundred edits", 10 * SECOND, |site| {
            site.size() == last
        });
        took.push(followed.await);
    }
    assert!(all_but_one_in_time(&took), "{took:?}");

    std::fs::remove_file(&tuning).unwrap();
    let shown = site
        .until_says(&["scaler", "show"], "emptied or deleted")
        .await;
    assert!(shown.contains("static-size: 5"), "{shown}");
    let said = site
        .says(&[
            "scaler",
            "set",
            "mode=static",
            "gap-caution=0s",
            "static-size=1",
            "--config",
            file,
        ])
        .await;
    assert!(said.starts_with("in force as generation "), "{said}");
    site.until("after all that", 5 * SECOND, |site| site.size() == 1)
        .await;
    assert!(site.server.drain().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_learned_survives_a_restart_and_can_be_exported_imported_and_rolled_back() {
    let site = Site::new(Workers::Auto, Some("min-size: 2\ndecision-interval: 1s\n")).await;
    site.rate.store(300, Ordering::Relaxed);
    // The reward of a choice is known with the next one.
    let rewarded = async {
        loop {
            let before = std::time::SystemTime::now() - 3 * SECOND;
            let before = before.duration_since(std::time::UNIX_EPOCH).unwrap();
            let at = before.as_millis().to_string();
            let output = site.windlass(&["scaler", "explain", "--at", &at]).await;
            if String::from_utf8_lossy(&output.stdout).contains("= cost ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(30 * SECOND, rewarded)
        .await
        .expect("a reward follows");
    let explained = site.until_says(&["scaler", "explain"], "← chosen").await;
    for said in [
        "measured: rate",
        "state ",
        "Q = Q cost + κ 60",
        "mode elastic",
    ] {
        assert!(explained.contains(said), "{said} in\n{explained}");
    }
    let early = site
        .fails(&["scaler", "explain", "--at", "2020-01-01T00:00:00Z"])
        .await;
    assert!(early.contains("nothing had been decided"), "{early}");
    let json = site.says(&["scaler", "explain", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    // Something else may have decided after it.
    let json = json.get("choice").unwrap_or(&json);
    assert!(
        json["q_values"].as_str().unwrap().contains("κ×1.00="),
        "{json}"
    );

    // What was weighed by another price then is shown by that one.
    let then = json["at"].as_str().unwrap();
    let tuning = site.tuning();
    let file = tuning.to_str().unwrap();
    site.says(&["scaler", "set", "late-window-price=150", "--config", file])
        .await;
    site.until_says(&["scaler", "explain"], "Q = Q cost + κ 150 × Q late")
        .await;
    let explained = site.says(&["scaler", "explain", "--at", then]).await;
    assert!(
        explained.contains("Q = Q cost + κ 60 × Q late"),
        "{explained}"
    );
    assert!(!explained.contains("κ 150"), "{explained}");

    let tuning = site.tuning();
    let site = site.restarted(Workers::Auto, Some(tuning)).await;
    let tables = site.says(&["scaler", "tables", "-o", "json"]).await;
    let tables: Vec<serde_json::Value> = serde_json::from_str(&tables).unwrap();
    let shipped = windlass_scaler::agent::presets::shipped().decisions;
    let learned = tables[0]["decisions"].as_u64().unwrap();
    assert!(
        learned > shipped,
        "{learned} choices, {shipped} of them shipped"
    );
    let started = tables.iter().filter(|table| table["kind"] == "start");
    assert!(started.count() >= 1, "{tables:?}");

    let path = site.directory.path().join("table.txt");
    let file = path.to_str().unwrap();
    site.says(&["scaler", "export", "--version", "1", "--out", file])
        .await;
    let same = site.says(&["scaler", "diff", "1", file]).await;
    assert!(same.starts_with("0 of 48 states"), "{same}");
    assert!(
        site.says(&["scaler", "diff", "shipped", "1"])
            .await
            .starts_with("0 of")
    );
    let imported = site.says(&["scaler", "import", file]).await;
    assert!(imported.contains("kept as version"), "{imported}");
    assert!(
        site.says(&["scaler", "rollback", "1"])
            .await
            .contains("kept as version")
    );
    assert!(site.says(&["scaler", "policy"]).await.contains("demand"));
    let foreign = std::fs::read_to_string(&path)
        .unwrap()
        .replacen("layout ", "layout f", 1);
    std::fs::write(&path, foreign).unwrap();
    let refused = site.fails(&["scaler", "import", file]).await;
    assert!(refused.contains("windlass scaler train"), "{refused}");
    site.until_says(&["scaler", "show"], "alive").await;
    assert!(site.server.drain().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scaler_in_a_process_of_its_own_sizes_the_dispatchers_pool_by_its_api() {
    let site = Site::new(
        Workers::Count(1),
        Some("mode: static\nstatic-size: 3\ngap-caution: 0s\n"),
    )
    .await;
    let url = format!("http://{}", site.server.address());
    let tuning = site.tuning();
    let mut scaler = Command::new(env!("CARGO_BIN_EXE_windlass"))
        .args([
            "scaler",
            "--dispatcher",
            &url,
            "--pool",
            "local",
            "--config",
        ])
        .arg(&tuning)
        .env("WINDLASS_STORE", store_url(site.directory.path()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    site.until("it sizes the pool", 20 * SECOND, |site| {
        site.status().pool.unwrap().ready == 3
    })
    .await;
    let file = tuning.to_str().unwrap();
    let said = site
        .says(&["scaler", "set", "static-size=1", "--config", file])
        .await;
    assert!(said.starts_with("in force as generation"), "{said}");
    site.until("it lets two go", 10 * SECOND, |site| {
        let pool = site.status().pool.unwrap();
        (pool.desired, pool.starting, pool.ready, pool.leaving) == (1, 0, 1, 0)
    })
    .await;
    let pid = rustix::process::Pid::from_raw(scaler.id().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = timeout(15 * SECOND, scaler.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    let pool = site.status().pool.unwrap();
    assert_eq!(pool.desired, 1, "it leaves the pool as it is");

    let client = reqwest::Client::new();
    let resize = |body: &'static str| {
        let call = client.post(format!("{url}/v1/pool")).body(body);
        call.header("content-type", "application/json").send()
    };
    assert_eq!(resize("{\"size\": 2}").await.unwrap().status(), 202);
    for bad in ["{\"size\": 0}", "{\"size\": 100000}", "{\"sized\": 2}"] {
        assert!(
            resize(bad).await.unwrap().status().is_client_error(),
            "{bad}"
        );
    }
    site.until("by hand", 10 * SECOND, |site| {
        site.status().pool.unwrap().ready == 2
    })
    .await;
    assert!(site.server.drain().await);
}

/// The policies that a table of `compare` or `replay` has a row of, in its order.
fn policies(table: &str) -> Vec<&str> {
    let rows = table.lines().skip(1);
    let names = rows.filter_map(|row| row.split_whitespace().next());
    names.filter(|name| *name != "policy").collect()
}

/// Their figures, as `-o json` has them.
fn outcomes(json: &str) -> Vec<Value> {
    serde_json::from_str(json).expect(json)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_mode_off_nothing_is_sized_and_every_shadow_is_scored_live_and_from_a_file() {
    let shadows = [
        "elastic",
        "paper",
        "slo-ds2",
        "ds2",
        "hpa-default",
        "keda-queue-default",
    ];
    let tuning = format!(
        "mode: off\nmax-size: 9\nlate-window-price: 7\nshadow: {}\n",
        shadows.join(", ")
    );
    let site = Site::new(Workers::Auto, Some(&tuning)).await;
    let size = site.size();
    site.rate.store(800, Ordering::Relaxed);
    // Where nothing is decided, seconds are kept by tens.
    let table = site.until_says(&["scaler", "compare"], "measured").await;
    let judged = "size 1 to 9, latency goal 1 s, 7 pod-seconds a late window";
    assert!(table.contains(judged), "{table}");
    let expected = [&["actual"], &shadows[..]].concat();
    assert_eq!(policies(&table), expected, "{table}");
    let compared = site.says(&["scaler", "compare", "-o", "json"]).await;
    for outcome in outcomes(&compared) {
        let figure = |name: &str| outcome[name].as_f64().expect(name);
        let price = figure("cost") + 7.0 * figure("late");
        assert!(figure("cost") > 0.0, "{outcome}");
        assert!((figure("price") - price).abs() < 1e-6, "{outcome}");
    }
    let explained = site.says(&["scaler", "explain", "-o", "json"]).await;
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!(explained["mode"], "off");
    assert!(explained.get("choice").is_none(), "{explained}");
    let ready = site.status().pool.unwrap();
    assert_eq!(
        (ready.desired, site.size()),
        (size, size),
        "it is left alone"
    );
    let Site {
        directory, server, ..
    } = site;
    assert!(server.drain().await);

    let here = directory.path();
    let path = |name: &str| here.join(name).display().to_string();
    let (run, other) = (path("run.csv"), path("other"));
    says(here, &["scaler", "replay", "--export", &run]).await;
    let kept = says(here, &["scaler", "replay", "-o", "json"]).await;
    let again = says(here, &["scaler", "replay", &run, "-o", "json"]).await;
    assert_eq!(kept, again, "a file says all that the store knows");
    let actual = &outcomes(&kept)[0];
    assert_eq!(actual["actions"], 0, "{actual}");
    assert_eq!(actual["sizes"], serde_json::json!([size, size]), "{actual}");

    let named = ["scaler", "replay", &run, "--policies", "hpa-tuned,elastic"];
    let table = says(here, &named).await;
    assert_eq!(
        policies(&table),
        ["actual", "hpa-tuned", "elastic"],
        "{table}"
    );
    assert!(table.contains(judged), "{table}");
    std::fs::write(&other, "max-size: 1\nlate-window-price: 0\n").unwrap();
    let judged = [&named[..], &["--config", &other, "-o", "json"]].concat();
    for outcome in &outcomes(&says(here, &judged).await)[1..] {
        assert_eq!(outcome["sizes"], serde_json::json!([1, 1]), "{outcome}");
        assert_eq!(outcome["price"], outcome["cost"]);
    }
    let text = std::fs::read_to_string(&run).unwrap();
    std::fs::write(&run, text.replace("version 2", "version 1")).unwrap();
    let refused = fails(here, &named).await;
    let said = "expected version 2 of a recorded run, got version 1: replay it with";
    assert!(refused.contains(said), "{refused}");
}
