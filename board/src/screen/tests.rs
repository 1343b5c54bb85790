use super::*;
use windlass_dispatcher::store::Progress;

fn row(second: u32, province: &str, gmv: &str, revision: u64, state: &str) -> GmvRow {
    GmvRow {
        window_start: format!("2026-11-11 00:00:{second:02}.000"),
        province: province.into(),
        orders: 2,
        gmv: gmv.into(),
        mean: "0.0000".into(),
        min_amount: "1.00".into(),
        max_amount: "9.00".into(),
        revision,
        state: state.into(),
    }
}

fn snapshot(commits: u64, windows: Vec<GmvRow>, total: &str) -> Snapshot {
    let newest = windows.last().and_then(|row| instant(&row.window_start));
    Snapshot {
        progress: Progress {
            commits,
            ..Progress::default()
        },
        newest,
        windows,
        totals: vec![TotalRow {
            province: "Anhui".into(),
            orders: 2,
            gmv: total.into(),
            mean: "0.0000".into(),
            min_amount: "1.00".into(),
            max_amount: "9.00".into(),
        }],
        ..Snapshot::default()
    }
}

#[test]
fn a_viewer_is_told_only_of_windows_that_changed() {
    let mut screen = Screen::default();
    let rows = vec![
        row(1, "Anhui", "10.00", 0, "closed"),
        row(2, "Anhui", "5.00", 0, "open"),
    ];
    assert_eq!(
        screen
            .take(snapshot(1, rows, "15.00"))
            .unwrap()
            .windows
            .len(),
        2
    );
    let rows = vec![
        row(1, "Anhui", "11.00", 1, "closed"),
        row(2, "Anhui", "5.00", 0, "open"),
    ];
    let frame = screen.take(snapshot(2, rows, "16.00")).unwrap();
    assert_eq!(frame.windows.len(), 1);
    assert_eq!(
        (frame.windows[0].gmv.as_str(), frame.windows[0].revision),
        ("11.00", 1)
    );
    assert_eq!(frame.total.gmv, "16.00");
    assert_eq!(screen.whole().windows.len(), 2);
}

#[test]
fn a_replay_into_a_final_window_shows_in_the_totals() {
    let mut screen = Screen::default();
    let with = |orders, rows: Vec<GmvRow>| {
        let mut read = snapshot(1, rows, "0.00");
        read.from = instant("2026-11-11 00:00:02.000").unwrap();
        read.totals[0].orders = orders;
        read
    };
    let of = |second| row(second, "Anhui", "10.00", 0, "open");
    let mut whole = with(4, vec![of(1), of(2)]);
    whole.from = 0;
    screen.take(whole);
    assert!(screen.explains(&with(4, vec![of(2)])));
    assert!(screen.explains(&with(6, vec![of(2), of(3)])));
    assert!(
        !screen.explains(&with(5, vec![of(2)])),
        "one came to second 1"
    );
    assert!(!screen.explains(&with(4, vec![of(2), of(3)])));
}

#[test]
fn an_older_replica_cannot_take_the_total_back() {
    let mut screen = Screen::default();
    let rows = vec![row(1, "Anhui", "10.00", 0, "closed")];
    screen.take(snapshot(5, rows.clone(), "10.00"));
    assert_eq!(screen.take(snapshot(4, rows, "9.00")), None);
    assert_eq!(screen.totals().total.gmv, "10.00");
}

#[test]
fn the_minute_and_the_second_end_with_the_last_closed_window() {
    let mut screen = Screen::default();
    let rows = vec![
        row(1, "Anhui", "10.00", 0, "final"),
        row(2, "Anhui", "5.50", 0, "closed"),
        row(2, "Hebei", "1.25", 0, "closed"),
        row(3, "Anhui", "99.00", 0, "open"),
    ];
    let frame = screen.take(snapshot(1, rows, "115.75")).unwrap();
    assert_eq!(frame.second.len(), 2);
    assert_eq!(frame.minute[0].gmv, "15.50");
    assert_eq!(screen.open(), 1);
}

#[test]
fn steps_are_those_that_the_store_would_give() {
    let mut screen = Screen::default();
    assert_eq!(
        screen.steps(0, 1_000, 1_000, None),
        None,
        "nothing is known yet"
    );
    let rows = vec![
        row(1, "Anhui", "10.00", 1, "final"),
        row(2, "Anhui", "5.50", 0, "closed"),
        row(2, "Hebei", "1.25", 2, "closed"),
    ];
    let first = instant(&rows[0].window_start).unwrap();
    screen.take(Snapshot {
        server: "db".into(),
        ..snapshot(1, rows, "16.75")
    });
    let minute = screen
        .steps(first - 1_000, first + 59_000, MINUTE_MS, None)
        .unwrap();
    let of = |row: &StepRow| {
        (
            row.start.clone(),
            row.sales.gmv.clone(),
            row.revision,
            row.state.clone(),
        )
    };
    let at = "2026-11-11 00:00:00.000".to_owned();
    assert_eq!(
        of(&minute[0]),
        (at.clone(), "15.50".into(), 1, "closed".into())
    );
    assert_eq!(of(&minute[1]), (at, "1.25".into(), 2, "closed".into()));
    assert_eq!(
        (minute[0].sales.orders, minute[0].sales.mean.as_str()),
        (4, "3.8750")
    );
    let seconds = screen.steps(first, first + 60_000, 1, None).unwrap();
    assert_eq!(written(&screen, first, first + 60_000, 1), seconds);
    assert!(screen.parts(first - KEPT_MS, first, 1).is_none());
    let minutes = written(&screen, first - 1_000, first + 59_000, MINUTE_MS);
    assert_eq!(minutes, minute);
    assert!(screen.parts(first, first + 3_600_000, 3_600_000).is_none());
    let hebei = screen
        .steps(first, first + 2_000, 1_000, Some("Hebei"))
        .unwrap();
    assert_eq!(hebei.len(), 1);
    assert_eq!(hebei[0].start, "2026-11-11 00:00:02.000");
    assert_eq!(
        screen.steps(first - KEPT_MS, first, 1_000, None),
        None,
        "older than what is kept"
    );
}

/// Parts as one array of JSON, read as the rows that it is to be.
fn written(screen: &Screen, from: i64, to: i64, width: i64) -> Vec<StepRow> {
    let parts = screen.parts(from, to, width).unwrap();
    let rows = screen.steps(from, to, width, None).unwrap();
    assert_eq!(
        parts.iter().map(|part| part.rows).sum::<usize>(),
        rows.len()
    );
    let texts = parts
        .iter()
        .map(|part| std::str::from_utf8(&part.json).unwrap());
    let json = format!("[{}]", texts.collect::<Vec<_>>().join(","));
    assert_eq!(json, serde_json::to_string(&rows).unwrap());
    rows
}

#[test]
fn an_answer_that_was_written_before_a_late_order_is_written_again_after_it() {
    let mut screen = Screen::default();
    let named = |rows: Vec<GmvRow>, commits| Snapshot {
        server: "db".into(),
        ..snapshot(commits, rows, "16.75")
    };
    let rows = |gmv, revision| {
        vec![
            row(1, "Anhui", gmv, revision, "final"),
            row(2, "Anhui", "5.50", 0, "closed"),
        ]
    };
    screen.take(named(rows("10.00", 0), 1));
    let from = instant("2026-11-11 00:00:00.000").unwrap();
    let before = screen.clone();
    for width in [1, MINUTE_MS] {
        written(&screen, from, from + MINUTE_MS, width);
    }
    screen.take(named(rows("10.01", 1), 2));
    let minute = written(&screen, from, from + MINUTE_MS, MINUTE_MS);
    assert_eq!(minute[0].sales.gmv, "15.51");
    let seconds = written(&screen, from, from + MINUTE_MS, 1);
    assert_eq!(seconds[0].sales.gmv, "10.01");
    // Whoever still answers from the state before it is not disturbed.
    assert_eq!(written(&before, from, from + MINUTE_MS, 1)[0].revision, 0);
    // A row that is gone is gone from the minute too.
    screen.take(named(vec![row(2, "Anhui", "5.50", 0, "closed")], 3));
    let minute = written(&screen, from, from + MINUTE_MS, MINUTE_MS);
    assert_eq!(minute[0].sales.gmv, "5.50");
}

#[test]
fn history_is_bounded() {
    let mut screen = Screen::default();
    screen.take(snapshot(
        1,
        vec![row(1, "Anhui", "1.00", 0, "final")],
        "1.00",
    ));
    let mut late = row(1, "Anhui", "1.00", 0, "open");
    late.window_start = "2026-11-11 01:00:00.000".into();
    let mut next = snapshot(2, vec![late], "2.00");
    next.from = next.newest.unwrap();
    screen.take(next);
    assert_eq!(screen.whole().windows.len(), 1);
}
