use windlass_datagen::feed::Feed;
use windlass_datagen::manifest::{
    Difference, Manifest, MergeError, Origin, Recorder, Run, SourceCounts, UncountedKind,
    UncountedTuple, WindowRow, compare,
};
use windlass_datagen::message::{Format, Messages, Packing};
use windlass_datagen::workload::{Options, Workload};

use super::{feed, options, plain, recount};

fn late_options() -> Options {
    Options {
        late: 0.02,
        ..options()
    }
}

fn record(options: Options, duplicates: f64) -> Manifest {
    let packing = Packing {
        format: Format::Json,
        batch: 1,
        duplicates,
        seed: 7,
    };
    let mut messages = Messages::new(feed(options.clone()), packing);
    let mut recorder = Recorder::new(1_000);
    for message in messages.by_ref() {
        recorder.record(&message.unwrap().orders);
    }
    let run = Run {
        origin: Origin::Workload(options),
        interrupted: false,
    };
    recorder.finish(messages.feed().dictionaries(), run)
}

/// A database that did everything right, for tests to spoil.
#[derive(Clone)]
struct Database {
    rows: Vec<WindowRow>,
    uncounted: Vec<UncountedTuple>,
    sources: Vec<SourceCounts>,
}

impl Database {
    /// Counts what is on time and lists what is late.
    fn of(manifest: &Manifest, options: Options) -> Self {
        let workload = Workload::new(options.clone()).unwrap();
        let (late, on_time): (Vec<_>, Vec<_>) = workload
            .zip(plain(feed(options)))
            .partition(|(order, _)| order.late);
        let on_time: Vec<_> = on_time.into_iter().map(|(_, plain)| plain).collect();
        let rows = recount(&on_time)
            .into_iter()
            .map(|((start, key), row)| WindowRow {
                window_start_ms: start,
                key,
                orders: row.0,
                sum: row.1,
                min: row.2,
                max: row.3,
            });
        let uncounted = late.into_iter().map(|(_, plain)| UncountedTuple {
            source: plain.source,
            seq: plain.seq,
            kind: UncountedKind::Late,
            window_start_ms: Some(plain.ts.div_euclid(1_000) * 1_000),
            key: Some(plain.key),
            amount: Some(plain.amount),
        });
        let sources = manifest
            .sources
            .iter()
            .map(|(source, record)| SourceCounts {
                source: source.clone(),
                counted: record.published - record.late,
                late: record.late,
                quarantined: 0,
                gaps: 0,
            });
        Self {
            rows: rows.collect(),
            uncounted: uncounted.collect(),
            sources: sources.collect(),
        }
    }

    fn differences(self, manifest: &Manifest) -> Vec<Difference> {
        compare(manifest, self.rows, self.uncounted, self.sources).differences
    }
}

/// A small run with late orders, and the database that is right about it.
fn small() -> (Manifest, Database) {
    let options = Options {
        orders: Some(600),
        ..late_options()
    };
    let manifest = record(options.clone(), 0.0);
    let database = Database::of(&manifest, options);
    (manifest, database)
}

#[test]
fn a_manifest_is_kept_packed_and_cut_to_some_windows() {
    let (manifest, _) = small();
    let packed = manifest.pack().unwrap();
    assert!(packed.len() < serde_json::to_vec(&manifest).unwrap().len() / 2);
    assert_eq!(Manifest::unpack(&packed, "run a").unwrap(), manifest);
    let damaged = Manifest::unpack(&packed[..packed.len() / 2], "run a").unwrap_err();
    assert!(format!("{damaged:#}").contains("run a"), "{damaged:#}");
    let (first, last) = manifest.span().unwrap();
    assert!(first < last);
    let cut = manifest.clone().within(first + 1..=last);
    assert!(cut.windows.len() < manifest.windows.len());
    assert_eq!(cut.sources, manifest.sources);
    assert_eq!(manifest.clone().within(first..=last), manifest);
}

#[test]
fn a_manifest_is_a_recount_of_the_distinct_tuples_whatever_was_sent_twice() {
    let manifest = record(late_options(), 0.05);
    let orders = plain(feed(late_options()));
    let rows: Vec<_> = recount(&orders).into_iter().collect();
    assert_eq!(manifest.windows.len(), rows.len());
    for (ours, ((start, key), row)) in manifest.windows.iter().zip(rows) {
        assert_eq!((ours.start_ms, &ours.key), (start, &key));
        assert_eq!((ours.orders, ours.sum, ours.min, ours.max), row);
    }
    assert_eq!(manifest.totals.orders, 10_000);
    assert_eq!(
        manifest.totals.sum,
        orders.iter().map(|o| i128::from(o.amount)).sum::<i128>()
    );
    let late = Workload::new(late_options())
        .unwrap()
        .filter(|o| o.late)
        .count() as u64;
    assert_eq!(manifest.sources.values().map(|s| s.late).sum::<u64>(), late);
    for record in manifest.sources.values() {
        assert_eq!(
            (record.first, record.last, record.published),
            (1, 1_250, 1_250)
        );
        assert!((30..=100).contains(&record.duplicates), "{record:?}");
    }
}

#[test]
fn a_manifest_comes_back_from_its_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("manifest.json");
    let mut manifest = record(late_options(), 0.01);
    manifest.totals.sum = i128::from(i64::MAX) * 7;
    manifest.write(&path).unwrap();
    assert_eq!(Manifest::read(&path).unwrap(), manifest);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"64563604257983430649\""));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_no_manifest_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other.json");
    std::fs::write(&path, "{}").unwrap();
    let error = format!("{:#}", Manifest::read(&path).unwrap_err());
    assert!(error.contains("other.json is not a manifest"), "{error}");
}

#[test]
fn a_right_database_shows_no_difference() {
    let (manifest, database) = small();
    assert!(!database.uncounted.is_empty());
    assert_eq!(database.differences(&manifest), []);
}

#[test]
fn late_tuples_that_were_counted_after_all_are_no_difference() {
    let (manifest, mut database) = small();
    let all = plain(feed(Options {
        orders: Some(600),
        ..late_options()
    }));
    database.rows = recount(&all)
        .into_iter()
        .map(
            |((window_start_ms, key), (orders, sum, min, max))| WindowRow {
                window_start_ms,
                key,
                orders,
                sum,
                min,
                max,
            },
        )
        .collect();
    database.uncounted.clear();
    for counts in &mut database.sources {
        counts.counted += std::mem::take(&mut counts.late);
    }
    assert_eq!(database.differences(&manifest), []);
}

#[test]
fn each_kind_of_wrong_database_is_found_and_named() {
    let (manifest, right) = small();
    let spoil = |change: fn(&mut Database)| {
        let mut database = right.clone();
        change(&mut database);
        let differences = database.differences(&manifest);
        assert_eq!(differences.len(), 1, "{differences:?}");
        differences.into_iter().next().unwrap()
    };
    let row = spoil(|d| d.rows[5].orders += 1);
    assert!(matches!(row, Difference::Row { .. }), "{row:?}");
    let row = spoil(|d| d.rows[5].sum -= 1);
    assert!(matches!(row, Difference::Row { .. }), "{row:?}");
    let row = spoil(|d| drop(d.rows.remove(5)));
    assert!(matches!(row, Difference::Row { orders: 0, .. }), "{row:?}");
    let row = spoil(|d| {
        let mut stranger = d.rows[5].clone();
        stranger.key = "Atlantis".into();
        d.rows.push(stranger);
    });
    assert!(
        matches!(
            row,
            Difference::Row {
                expected_orders: 0,
                ..
            }
        ),
        "{row:?}"
    );
    let extremes = spoil(|d| d.rows[5].min -= 1);
    assert!(
        matches!(extremes, Difference::Extremes { .. }),
        "{extremes:?}"
    );
    let lost = spoil(|d| d.sources[2].counted -= 3);
    assert!(
        lost.to_string()
            .contains("3 of 75 tuples are neither counted"),
        "{lost}"
    );
    let doubled = spoil(|d| d.sources[2].counted += 3);
    assert!(
        doubled.to_string().contains("3 more than the 75"),
        "{doubled}"
    );
    let absent = spoil(|d| {
        let gone = d.sources.remove(0);
        d.sources.push(SourceCounts {
            source: "elsewhere".into(),
            counted: 0,
            ..gone
        });
    });
    assert!(
        matches!(absent, Difference::Source { settled: 0, .. }),
        "{absent:?}"
    );
    let unknown = spoil(|d| {
        let mut stranger = d.sources[0].clone();
        stranger.source = "stranger".into();
        d.sources.push(stranger);
    });
    assert!(
        matches!(unknown, Difference::UnknownSource { .. }),
        "{unknown:?}"
    );
    let gaps = spoil(|d| d.sources[0].gaps = 1);
    assert!(matches!(gaps, Difference::Gaps { gaps: 1, .. }), "{gaps:?}");
    let unknown = spoil(|d| {
        let mut tuple = d.uncounted[0].clone();
        tuple.seq = 1_000_000;
        d.uncounted.push(tuple);
    });
    assert!(
        matches!(unknown, Difference::UnknownTuple { seq: 1_000_000, .. }),
        "{unknown:?}"
    );
    let listing = spoil(|d| {
        let source = d.uncounted[0].source.clone();
        let counts = d.sources.iter_mut().find(|c| c.source == source).unwrap();
        counts.counted += 1;
        counts.late -= 1;
    });
    assert!(matches!(listing, Difference::Listing { .. }), "{listing:?}");
}

#[test]
fn tuples_that_were_on_time_and_came_late_are_a_difference_even_if_all_is_listed() {
    let (manifest, mut database) = small();
    let orders = plain(feed(Options {
        orders: Some(600),
        ..late_options()
    }));
    let workload = Workload::new(Options {
        orders: Some(600),
        ..late_options()
    });
    let place = workload.unwrap().position(|o| !o.late).unwrap();
    let victim = &orders[place];
    let window = victim.ts.div_euclid(1_000) * 1_000;
    let cell = |row: &&mut WindowRow| row.window_start_ms == window && row.key == victim.key;
    let row = database.rows.iter_mut().find(cell).unwrap();
    row.orders -= 1;
    row.sum -= i128::from(victim.amount);
    database.uncounted.push(UncountedTuple {
        source: victim.source.clone(),
        seq: victim.seq,
        kind: UncountedKind::Late,
        window_start_ms: Some(window),
        key: Some(victim.key.clone()),
        amount: Some(victim.amount),
    });
    let of_victim = |counts: &&mut SourceCounts| counts.source == victim.source;
    let counts = database.sources.iter_mut().find(of_victim).unwrap();
    counts.counted -= 1;
    counts.late += 1;
    let found = database.differences(&manifest);
    assert_eq!(found.len(), 1, "{found:?}");
    let said = found[0].to_string();
    assert!(said.contains("1 on-time tuples became late"), "{said}");
    // A dispatcher with less delay and lateness is right to call them late: the report says so.
    assert!(said.contains("on time is within 5500 ms"), "{said}");
}

#[test]
fn a_report_shows_twenty_differences_and_says_how_many_there_are() {
    let (manifest, mut database) = small();
    database.rows.clear();
    let differences = compare(
        &manifest,
        database.rows,
        database.uncounted,
        database.sources,
    );
    let text = differences.to_string();
    assert_eq!(text.lines().count(), 22, "{text}");
    assert!(text.contains("2025-11-1"), "{text}");
    let json = serde_json::to_value(&differences).unwrap();
    assert_eq!(
        json["differences"].as_array().unwrap().len(),
        differences.differences.len()
    );
}

#[test]
fn manifests_of_different_sources_merge_into_what_one_run_would_have_made() {
    let mut other = options();
    other.source_prefix = "b-".into();
    other.seed = 8;
    let merged = record(options(), 0.0)
        .merge(record(other.clone(), 0.0))
        .unwrap();
    let mut orders = plain(feed(options()));
    orders.extend(plain(feed(other)));
    let rows: Vec<_> = recount(&orders).into_values().collect();
    let found: Vec<_> = merged
        .windows
        .iter()
        .map(|w| (w.orders, w.sum, w.min, w.max))
        .collect();
    assert_eq!(found, rows);
    assert_eq!(merged.sources.len(), 16);
    assert_eq!(merged.totals.orders, 20_000);
    assert_eq!(merged.runs.len(), 2);
}

#[test]
fn manifests_that_share_tuples_do_not_merge() {
    let error = record(options(), 0.0)
        .merge(record(options(), 0.0))
        .unwrap_err();
    assert!(matches!(error, MergeError::Overlap { .. }));
    assert!(error.to_string().contains("--source-prefix"), "{error}");
}

#[test]
fn tuples_that_were_not_confirmed_make_an_exact_check_impossible_and_say_so() {
    let workload = Workload::new(options()).unwrap();
    let orders: Vec<_> = workload.take(16).collect();
    let mut recorder = Recorder::new(1_000);
    recorder.record(&orders[..8]);
    recorder.unconfirmed(&orders[8..]);
    let run = Run {
        origin: Origin::Workload(options()),
        interrupted: true,
    };
    let feed = Feed::Workload(Box::new(Workload::new(options()).unwrap()));
    let manifest = recorder.finish(feed.dictionaries(), run);
    let rows = manifest.windows.iter().map(|w| WindowRow {
        window_start_ms: w.start_ms,
        key: w.key.clone(),
        orders: w.orders,
        sum: w.sum,
        min: w.min,
        max: w.max,
    });
    let sources = manifest.sources.keys().map(|source| SourceCounts {
        source: source.clone(),
        counted: 1,
        late: 0,
        quarantined: 0,
        gaps: 0,
    });
    let found = compare(&manifest, rows, [], sources).differences;
    assert_eq!(found.len(), 8, "{found:?}");
    assert!(
        found
            .iter()
            .all(|d| matches!(d, Difference::Unconfirmed { tuples: 1, .. }))
    );
}
