//! How long a second of the scaler takes: measuring, deciding and recording it. A decision is to take
//! 50 µs at most, for the largest pool that there may be, too, and at any price of a late window.

use criterion::{Criterion, criterion_group, criterion_main};
use windlass_scaler::agent::controller::{Controller, Second};
use windlass_scaler::agent::record::to_line;
use windlass_scaler::agent::sample::{Pool, Sample};
use windlass_scaler::agent::sarsa::Luck;
use windlass_scaler::tuning::{Mode, Tuning};

/// A second with a pool of about so many pods.
fn second(at: u64, pods: f64) -> Second {
    // A rate that wanders, so that state and demand do, and jumps now and then, so that much is possible.
    let jump = if at % 60 < 20 { 1.6 } else { 1.0 };
    let rate = jump * pods * (1_000.0 + 450.0 * (at as f64 / 40.0).sin());
    Second {
        now: at as f64,
        seen: Ok(Sample {
            arrived: rate,
            busy: 0.7 * pods,
            ready: pods,
            started_tuples: rate,
            started_seconds: rate * 0.0007,
            started_batches: rate / 500.0,
            cost: pods,
            ..Sample::default()
        }),
        pool: Pool {
            ready: pods as u32,
            ..Pool::default()
        },
        calendar: 0,
        luck: Luck {
            explore: (at % 97) as f64 / 97.0,
            direction: 0.4,
        },
    }
}

fn decisions(criterion: &mut Criterion) {
    for (mode, pods, max_size, price) in [
        (Mode::Elastic, 20.0, 48, 60.0),
        (Mode::Elastic, 20.0, 10_000, 100_000.0),
        (Mode::Elastic, 200.0, 10_000, 60.0),
        (Mode::Elastic, 5_000.0, 10_000, 60.0),
        (Mode::Elastic, 5_000.0, 10_000, 100_000.0),
        (Mode::Paper, 20.0, 48, 60.0),
        (Mode::SloDs2, 20.0, 48, 60.0),
    ] {
        let mut controller = Controller::shipped(Tuning {
            mode,
            max_size,
            late_window_price: price,
            // A choice every second: the dearest case.
            decision_interval: 1.0,
            ..Tuning::default()
        });
        let mut at = 0;
        let name = format!(
            "second/{}/{pods} of {max_size} pods at {price}",
            mode.name()
        );
        criterion.bench_function(&name, |bencher| {
            bencher.iter(|| {
                at += 1;
                controller.second(second(at, pods))
            });
        });
    }
    criterion.bench_function("record", |bencher| {
        let second = second(7, 20.0);
        bencher.iter(|| to_line(&second));
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
