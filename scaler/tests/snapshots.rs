//! Tables as text: what is written is read back; what does not fit is refused with what to do.

use windlass_scaler::agent::layout::Layout;
use windlass_scaler::agent::presets::{elastic_layout, elastic_prior, paper_layout};
use windlass_scaler::agent::snapshot::{Refused, Snapshot, difference};
use windlass_scaler::agent::table::{Pair, Table};

fn snapshot() -> Snapshot {
    let mut table = elastic_prior(elastic_layout());
    for at in 0..12 {
        let pair = Pair {
            state: at % 12,
            action: at % 5,
        };
        let cell = table.cell_mut(pair);
        cell.cost = -1.0 / (at as f64 + 3.0);
        cell.late = -1e-17 * at as f64;
        cell.visits = at as u64;
    }
    Snapshot {
        table,
        kappa: 60.0,
        volatility: 0.1 + 0.2,
        decisions: 12_345,
    }
}

fn refused(text: &str, layout: Layout) -> Refused {
    Snapshot::from_text(text, layout).unwrap_err()
}

#[test]
fn a_table_is_read_back_to_the_bit() {
    let written = snapshot();
    let read = Snapshot::from_text(&written.to_text(), elastic_layout()).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.to_text(), written.to_text());
}

#[test]
fn a_table_of_other_bins_or_actions_is_refused() {
    let text = snapshot().to_text();
    let mut edges = elastic_layout();
    edges.axes[0].edges[1] += 1e-12;
    let mut actions = elastic_layout();
    actions.actions.swap(1, 2);
    for layout in [paper_layout(), edges, actions] {
        let error = refused(&text, layout);
        assert!(matches!(error, Refused::Layout { .. }), "{error}");
        assert!(
            error.to_string().contains("windlass scaler train"),
            "{error}"
        );
    }
}

#[test]
fn another_version_is_refused() {
    let text = snapshot().to_text().replacen("table 1", "table 2", 1);
    let error = refused(&text, elastic_layout());
    assert_eq!(error, Refused::Version("2".into()));
}

#[test]
fn every_cut_and_every_broken_number_is_noticed() {
    let text = snapshot().to_text();
    let lines: Vec<&str> = text.lines().collect();
    for kept in [0, 1, 3, 5, 6, 7, 8, 20, lines.len() - 1] {
        refused(&lines[..kept].join("\n"), elastic_layout());
    }
    for (from, to) in [
        ("\n3,0,", "\n3,1,"),
        ("\n0,0,", "\n0,0,NaN,"),
        ("kappa 60", "kappa inf"),
        ("kappa 60", "kappa -60"),
        ("decisions 12345", "decisions"),
    ] {
        let broken = text.replacen(from, to, 1);
        assert_ne!(broken, text);
        let error = refused(&broken, elastic_layout());
        assert!(matches!(error, Refused::Damaged { .. }), "{error}");
    }
    let error = refused(&format!("{text}0,0,0,0,0\n"), elastic_layout());
    assert!(error.to_string().contains("the end"), "{error}");
    assert!(matches!(
        refused("hello", elastic_layout()),
        Refused::NotATable(_)
    ));
}

#[test]
fn a_difference_names_the_states_that_choose_otherwise() {
    let before = snapshot().table;
    let mut after = before.clone();
    let pair = Pair {
        state: 7,
        action: 1,
    };
    after.cell_mut(pair).cost += 2.0;
    let found = difference(&before, &after, 60.0).unwrap();
    assert_eq!(found.cells, 1);
    assert!((found.largest - 2.0).abs() < 1e-12);
    assert_eq!(found.policy.len(), 1);
    assert_eq!((found.policy[0].state, found.policy[0].after), (7, 1));
    let other = Table::new(paper_layout(), |_, _| 0.0);
    assert_eq!(difference(&before, &other, 60.0), None);
}
