use std::collections::BTreeMap;

use windlass_datagen::pattern::Pattern;
use windlass_datagen::provinces::PROVINCES;
use windlass_datagen::workload::{Options, Order, Workload};

use super::{START_MS, options};

fn orders(options: Options) -> Vec<Order> {
    Workload::new(options).unwrap().collect()
}

#[test]
fn the_same_options_give_the_same_orders_and_another_seed_gives_others() {
    assert_eq!(orders(options()), orders(options()));
    let other = Options {
        seed: 8,
        ..options()
    };
    assert_ne!(orders(options()), orders(other));
}

#[test]
fn the_first_orders_of_seed_7_stay_what_they_are() {
    let first: Vec<_> = orders(options())
        .iter()
        .take(4)
        .map(|o| {
            (
                o.source,
                o.seq,
                o.ts - START_MS,
                PROVINCES[o.key as usize].0,
                o.amount,
            )
        })
        .collect();
    assert_eq!(
        first,
        [
            (0, 1, -81, "Shanghai", 2_231),
            (1, 1, -180, "Jilin", 3_266),
            (2, 1, -76, "Jiangsu", 2_877),
            (3, 1, -297, "Shandong", 8_672),
        ]
    );
}

#[test]
fn a_steady_rate_for_a_time_gives_their_product_spread_evenly() {
    let orders = orders(options());
    assert_eq!(orders.len(), 10_000);
    assert_eq!(Workload::new(options()).unwrap().expected(), Some(10_000));
    let first_second = orders.iter().filter(|o| o.due_ns < 1_000_000_000).count();
    assert_eq!(first_second, 5_000);
    assert!(orders.is_sorted_by_key(|o| o.due_ns));
}

#[test]
fn an_asked_for_number_of_orders_is_met_whatever_the_pattern() {
    for pattern in [
        Pattern::Steady,
        Pattern::Diurnal,
        Pattern::Spike,
        Pattern::Step,
    ] {
        let options = Options {
            orders: Some(1_234),
            pattern,
            ..options()
        };
        assert_eq!(orders(options).len(), 1_234);
    }
}

#[test]
fn every_source_numbers_its_tuples_from_1_without_a_gap() {
    let mut next = BTreeMap::new();
    for order in orders(options()) {
        let next = next.entry(order.source).or_insert(1);
        assert_eq!(order.seq, *next);
        *next += 1;
    }
    assert_eq!(next.len(), 8);
}

#[test]
fn an_event_time_precedes_the_time_of_sending_by_no_more_than_the_disorder() {
    let mut by_disorder = [0_u32; 301];
    for order in orders(options()) {
        let sent = START_MS + (order.due_ns / 1_000_000) as i64;
        by_disorder[usize::try_from(sent - order.ts).unwrap()] += 1;
        assert!(!order.late);
    }
    // 10,000 draws over 301 values: uniform means some 33 each.
    assert!(
        by_disorder.iter().all(|n| (8..=75).contains(n)),
        "{by_disorder:?}"
    );
}

#[test]
fn provinces_are_drawn_by_their_shares_and_amounts_are_lognormal() {
    let options = Options {
        orders: Some(200_000),
        ..options()
    };
    let orders = orders(options);
    for (key, (name, share)) in PROVINCES.iter().enumerate() {
        let count = orders.iter().filter(|o| o.key as usize == key).count() as f64;
        let expected = 200_000.0 * f64::from(*share) / 10_000.0;
        // Five standard deviations of a Poisson count.
        assert!(
            (count - expected).abs() < 5.0 * expected.sqrt(),
            "{name}: {count}, {expected}"
        );
    }
    let mut amounts: Vec<_> = orders.iter().map(|o| o.amount).collect();
    amounts.sort_unstable();
    let median = amounts[100_000];
    assert!((8_750..=9_050).contains(&median), "{median}");
    let mean = amounts.iter().sum::<i64>() as f64 / 200_000.0;
    assert!((14_300.0..=15_050.0).contains(&mean), "{mean}");
    assert!(amounts[0] >= 1);
}

#[test]
fn late_orders_are_late_by_what_was_asked_and_as_many_as_asked() {
    let options = Options {
        late: 0.01,
        late_by_ms: 30_000,
        ..options()
    };
    let mut late = 0;
    for order in orders(options) {
        let age = START_MS + (order.due_ns / 1_000_000) as i64 - order.ts;
        assert_eq!(order.late, age > 300, "{order:?}");
        if order.late {
            assert!((30_000..=30_300).contains(&age));
            late += 1;
        }
    }
    assert!((60..=140).contains(&late), "{late} of 10,000 at 1%");
}

#[test]
fn options_that_make_no_sense_are_refused_with_what_was_expected() {
    let refuse = |options| Workload::new(options).unwrap_err().to_string();
    let wrong = refuse(Options {
        sources: 0,
        ..options()
    });
    assert!(wrong.contains("sources, got 0"), "{wrong}");
    let wrong = refuse(Options {
        rate: f64::NAN,
        ..options()
    });
    assert!(wrong.contains("got NaN"), "{wrong}");
    let wrong = refuse(Options {
        late: 0.1,
        late_by_ms: 5_000,
        ..options()
    });
    assert!(wrong.contains("at least 6800 ms"), "{wrong}");
}

#[test]
fn two_runs_get_different_prefixes_and_the_same_run_the_same() {
    let prefix = options().run_prefix();
    assert_eq!(prefix.len(), 9);
    assert_eq!(prefix, options().run_prefix());
    let later = Options {
        start_ms: START_MS + 1,
        ..options()
    };
    assert_ne!(prefix, later.run_prefix());
}
