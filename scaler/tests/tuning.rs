//! The tuning as users write it.

use windlass_scaler::policies::Named;
use windlass_scaler::tuning::{Calendar, EXAMPLE, EXAMPLE_KEY, Invalid, Mode, Policy, Tuning};

/// Milliseconds since 1970 of 11 November 2026, midnight UTC.
const MIDNIGHT: i64 = 1_794_355_200_000;
const MINUTE: i64 = 60_000;

fn refused(pairs: &[(&str, &str)]) -> Vec<Invalid> {
    Tuning::from_pairs(pairs.iter().copied()).unwrap_err()
}

#[test]
fn the_example_is_the_default() {
    assert_eq!(Tuning::from_text(EXAMPLE), Ok(Tuning::default()));
    assert_eq!(
        Tuning::from_pairs([("_example", EXAMPLE)]),
        Ok(Tuning::default())
    );
}

#[test]
fn the_config_map_that_is_shipped_holds_the_example() {
    let component = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s/components/scaler/");
    let read = |name: &str| std::fs::read_to_string(format!("{component}{name}")).unwrap();
    assert_eq!(read("tuning.example.txt"), EXAMPLE);
    let generated = read("kustomization.yaml");
    assert!(
        generated.contains(&format!("- {EXAMPLE_KEY}=tuning.example.txt")),
        "{generated}"
    );
}

#[test]
fn the_calendar_has_the_ranges_that_the_example_states() {
    for (text, valid) in [
        ("59 23 31 12 Sun / 744h / 48", true),
        ("0-30/5 0,12 1 1 Mon-Fri / 1s / 1", true),
        ("60 0 * * * / 1s / 1", false),
        ("0 24 * * * / 1s / 1", false),
        ("0 0 0 * * / 1s / 1", false),
        ("0 0 32 * * / 1s / 1", false),
        ("0 0 1 13 * / 1s / 1", false),
        ("0 0 * * * / 999ms / 1", false),
        ("0 0 * * * / 745h / 1", false),
        ("0 0 * * * / 1s / 0", false),
        ("0 0 * * * / 1s / 49", false),
    ] {
        let read = Tuning::from_pairs([("calendar", text)]);
        assert_eq!(read.is_ok(), valid, "{text}: {read:?}");
    }
}

#[test]
fn the_example_has_every_key_and_a_comment_for_each() {
    let Invalid::Unknown { known, .. } = &refused(&[("no-such-key", "1")])[0] else {
        panic!("an unknown key is refused as such");
    };
    let mut documented = Vec::new();
    let mut comment = false;
    for line in EXAMPLE.lines() {
        if line.starts_with('#') {
            comment = true;
        } else if let Some((key, _)) = line.split_once(':') {
            assert!(comment, "{key} is not explained");
            documented.push(key);
            comment = false;
        }
    }
    documented.sort_unstable();
    assert_eq!(documented.join(", "), *known);
}

#[test]
fn a_valid_edit_is_read_whole() {
    let text = "mode: slo-ds2\nmin-size: 3\nmax-size: 100\nlatency-goal: 750ms\nguards: off\n\
                late-window-price: 150\n\
                shadow: elastic, paper, slo-ds2, ds2, hpa-default, keda-queue-default\n# mode: off\n";
    let tuning = Tuning::from_text(text).unwrap();
    assert_eq!(tuning.mode, Mode::SloDs2);
    assert_eq!(
        (tuning.min_size, tuning.max_size, tuning.guards),
        (3, 100, false)
    );
    assert!((tuning.latency_goal - 0.75).abs() < 1e-12);
    let shadow = [
        Policy::Mode(Mode::Elastic),
        Policy::Mode(Mode::Paper),
        Policy::Mode(Mode::SloDs2),
        Policy::Formula(Named::Ds2),
        Policy::Formula(Named::HpaDefault),
        Policy::Formula(Named::KedaQueueDefault),
    ];
    assert_eq!(tuning.shadow, shadow);
}

#[test]
fn every_reason_is_given_at_once_with_what_was_expected() {
    let reasons = refused(&[
        ("mode", "fast"),
        ("min-size", "0"),
        ("latency-goal", "1"),
        ("exploration", "NaN"),
        ("kappa", "60"),
        ("shadow", "off"),
        ("decision-interval", "2500ms"),
    ]);
    let text: Vec<String> = reasons.iter().map(Invalid::to_string).collect();
    let text = text.join("\n");
    assert_eq!(reasons.len(), 7, "{text}");
    for said in [
        "mode: expected elastic, paper",
        "min-size: expected pods from 1",
        "latency-goal: expected a time from 0.05s",
        "exploration: expected a number from 0 to 0.5",
        "kappa: no such key; the known ones are calendar",
        "shadow: expected a mode (elastic, paper",
        "decision-interval: expected whole seconds",
    ] {
        assert!(text.contains(said), "{said} in\n{text}");
    }
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert_eq!(refused(&[("min-size", "50"), ("max-size", "10")]).len(), 1);
    assert_eq!(
        refused(&[("max-size", "10"), ("static-size", "11")]).len(),
        1
    );
    assert_eq!(
        refused(&[("learning-rate", "0.1"), ("learning-rate-floor", "0.2")]).len(),
        1
    );
    assert_eq!(refused(&[("calendar", "0 0 * * * / 5m / 49")]).len(), 1);
    let only_low = Tuning::from_pairs([("max-size", "2")]).unwrap();
    assert_eq!(only_low.static_size, 2, "a default gives way to a limit");
}

#[test]
fn a_line_without_a_colon_and_a_key_given_twice_are_refused() {
    let reasons = Tuning::from_text("mode elastic\nmin-size: 1\nmin-size: 2").unwrap_err();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
}

#[test]
fn a_calendar_floor_holds_from_its_time_for_its_length() {
    let calendar = Calendar::parse("50 23 10 11 * / 30m / 40; 0 6 * * * / 90s / 5", 48).unwrap();
    assert_eq!(calendar.floor(MIDNIGHT - 11 * MINUTE), 0);
    assert_eq!(calendar.floor(MIDNIGHT - 10 * MINUTE), 40);
    assert_eq!(calendar.floor(MIDNIGHT + 19 * MINUTE), 40);
    assert_eq!(calendar.floor(MIDNIGHT + 20 * MINUTE), 0);
    assert_eq!(calendar.floor(MIDNIGHT + 361 * MINUTE), 5);
    assert_eq!(calendar.floor(MIDNIGHT + 362 * MINUTE), 0);
    assert_eq!(calendar.floor(i64::MAX), 0, "a time that no calendar has");
}

#[test]
fn a_calendar_says_which_part_is_wrong() {
    for (text, said) in [
        ("tomorrow", "such as 50 23 10 11"),
        ("0 0 * * * / 5m / 0", "1 to max-size"),
        ("0 0 * * * / 5 / 9", "a time from 1s"),
        ("0 0 * * / 5m / 9", "day of week"),
        ("0 99 * * * / 5m / 9", "a cron expression"),
        ("0 9 * * 1 / 5m / 9", "by name, such as Mon-Fri"),
    ] {
        let error = Calendar::parse(text, 48).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
}
