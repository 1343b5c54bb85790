//! Generated files, published and counted through the command line alone.

use std::time::Duration;

use crate::harness::Site;

#[tokio::test(flavor = "multi_thread")]
async fn generated_files_are_published_and_audited_window_by_window() {
    let Some(site) = Site::new("files").await else {
        return;
    };
    let path = |name: &str| site.dir.path().join(name).display().to_string();
    let run = |arguments: &[&str]| {
        let output = site.run(arguments);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{errors}");
        said
    };
    let _dispatcher = site.owned(&["--idle-timeout", "10m"]).await;
    let (orders, generated, published) = (
        path("orders.parquet"),
        path("orders.parquet/windlass-manifest.json"),
        path("published.json"),
    );
    let size = ["--files", "4", "--rows", "2500", "--rate", "1000"];
    let generate = ["datagen", "generate", "--out", &orders];
    let said = run(&[&generate[..], &size].concat());
    assert!(said.starts_with("wrote 10,000 orders to 4 files"), "{said}");
    let publish = ["datagen", "publish", "--files", &orders, "--speed", "max"];
    let options = [
        "--format",
        "arrow",
        "--duplicates",
        "10%",
        "--manifest",
        &published,
    ];
    let said = run(&[&publish[..], &options].concat());
    assert!(said.contains(" orders in "), "{said}");

    site.settled(10_000, Duration::from_secs(60)).await;
    // What was generated is what was published is what was counted.
    for manifest in [&generated, &published] {
        let said = run(&["audit", "--manifest", manifest]);
        assert!(said.contains("manifest: no difference in"), "{said}");
    }
    // The same files once more are duplicates.
    let again = path("again.json");
    run(&[&publish[..], &["--manifest", &again]].concat());
    site.audited(Duration::from_secs(60), "all again", |audit| {
        audit.duplicates >= 10_000
    })
    .await;
    run(&["audit", "--manifest", &published]);
}
