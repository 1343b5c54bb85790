//! The simulator and every formula against figures of an independent implementation.

use windlass_scaler::policies::Named;
use windlass_scaler::simulator::{Metrics, Oracle, Pattern, Setting, Trace, run, run_oracle};

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    text.lines().skip(1).map(|line| line.split(',').collect())
}

/// The figures were written with six decimals.
fn near(ours: f64, theirs: &str) -> bool {
    let theirs: f64 = theirs.parse().unwrap();
    (ours - theirs).abs() <= 1e-6
}

#[test]
fn arrivals_are_the_same_to_the_tuple() {
    let mut compared = 0;
    for row in rows(include_str!("data/arrivals.csv")) {
        let pattern: Pattern = row[0].parse().unwrap();
        let arrivals = pattern.arrivals(row[1].parse().unwrap());
        let first: Vec<String> = arrivals[..10].iter().map(u32::to_string).collect();
        assert_eq!(first.join(" "), row[4], "{pattern}");
        assert_eq!(
            arrivals.iter().sum::<u32>().to_string(),
            row[2],
            "{pattern}"
        );
        assert_eq!(
            arrivals.iter().max().unwrap().to_string(),
            row[3],
            "{pattern}"
        );
        compared += 1;
    }
    assert_eq!(compared, 8);
}

fn play(policy: &str, trace: &Trace, oracle: &Oracle) -> Metrics {
    if policy == "oracle" {
        return run_oracle(trace, oracle);
    }
    let mut formula = policy.parse::<Named>().unwrap().policy();
    run(trace, oracle.first(), |view| formula.desired(view))
}

#[test]
fn every_policy_has_the_same_metrics_on_every_pattern_and_seed() {
    let mut compared = 0;
    let mut made: Option<(Pattern, u64, Trace, Oracle)> = None;
    let mut table: Vec<Vec<&str>> = rows(include_str!("data/metrics.csv")).collect();
    // A trace and its oracle are made once for all policies.
    table.sort_by_key(|row| (row[1], row[2]));
    for row in table {
        let (pattern, seed) = (row[1].parse().unwrap(), row[2].parse().unwrap());
        if !matches!(&made, Some((p, s, ..)) if (*p, *s) == (pattern, seed)) {
            let trace = Trace::new(pattern, seed, Setting::default());
            let oracle = Oracle::new(&trace);
            made = Some((pattern, seed, trace, oracle));
        }
        let (.., trace, oracle) = made.as_ref().unwrap();
        let ours = play(row[0], trace, oracle);
        let counts = [
            ours.late,
            ours.actions,
            ours.churn,
            ours.reversals,
            ours.jobs,
        ];
        let theirs = [3, 9, 10, 11, 12].map(|column| row[column].parse().unwrap());
        assert_eq!(counts, theirs, "{row:?} {ours:?}");
        let reals = [ours.late_percent, ours.p99, ours.p50, ours.cost, ours.paid];
        for (real, column) in reals.into_iter().zip(4..) {
            assert!(near(real, row[column]), "{row:?} {ours:?}");
        }
        compared += 1;
    }
    assert_eq!(compared, 240);
}
