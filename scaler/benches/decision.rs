//! How long a second of the scaler takes: measuring, deciding and recording it. A decision is to take
//! 50 µs at most.

use criterion::{Criterion, criterion_group, criterion_main};
use windlass_scaler::agent::controller::{Controller, Second};
use windlass_scaler::agent::record::to_line;
use windlass_scaler::agent::sample::{Pool, Sample};
use windlass_scaler::agent::sarsa::Luck;
use windlass_scaler::tuning::{Mode, Tuning};

fn second(at: u64) -> Second {
    // A rate that wanders, so that state and demand do.
    let rate = 20_000.0 + 9_000.0 * (at as f64 / 40.0).sin();
    Second {
        now: at as f64,
        seen: Ok(Sample {
            arrived: rate,
            busy: 14.0,
            ready: 20.0,
            started_tuples: rate,
            started_seconds: rate * 0.0007,
            started_batches: rate / 500.0,
            cost: 20.0,
            ..Sample::default()
        }),
        pool: Pool {
            ready: 20,
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
    for mode in [Mode::Elastic, Mode::Paper, Mode::SloDs2] {
        let mut controller = Controller::shipped(Tuning {
            mode,
            // A choice every second: the dearest case.
            decision_interval: 1.0,
            ..Tuning::default()
        });
        let mut at = 0;
        criterion.bench_function(&format!("second/{}", mode.name()), |bencher| {
            bencher.iter(|| {
                at += 1;
                controller.second(second(at))
            });
        });
    }
    criterion.bench_function("record", |bencher| {
        let second = second(7);
        bencher.iter(|| to_line(&second));
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
