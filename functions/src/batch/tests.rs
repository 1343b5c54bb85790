use proptest::prelude::*;

use super::*;

fn tuples(rows: &[(usize, i64)]) -> (Dictionary, Tuples) {
    let (mut keys, mut tuples) = (Dictionary::default(), Tuples::default());
    for (seq, (key, amount)) in rows.iter().enumerate() {
        let key = keys.intern(&format!("key {key}"));
        tuples.push(0, seq as u64, 0, key, *amount);
    }
    (keys, tuples)
}

fn partial() -> impl Strategy<Value = Partial> {
    prop::collection::vec(any::<i64>(), 1..5).prop_map(|values| {
        let mut partial = Partial::EMPTY;
        values.iter().for_each(|value| partial.add(*value));
        partial
    })
}

proptest! {
    #[test]
    fn a_batch_comes_back_as_it_was_with_only_the_keys_it_uses(
        rows in prop::collection::vec((0usize..40, any::<i64>()), 1..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let (keys, tuples) = tuples(&rows);
        let range = cut.index(rows.len())..rows.len();
        let batch = decode_batch(&encode_batch(&keys, &tuples, range.clone())).unwrap();
        let came: Vec<_> = batch
            .key
            .iter()
            .zip(&batch.amount)
            .map(|(&key, &amount)| (batch.keys[key as usize].to_string(), amount))
            .collect();
        let sent: Vec<_> = rows[range]
            .iter()
            .map(|(key, amount)| (format!("key {key}"), *amount))
            .collect();
        let distinct: HashSet<_> = sent.iter().map(|(key, _)| key).collect();
        prop_assert_eq!(batch.keys.len(), distinct.len());
        prop_assert_eq!(came, sent);
    }

    #[test]
    fn partials_come_back_as_they_were(partials in prop::collection::btree_map("\\PC{0,8}", partial(), 0..40)) {
        let partials: Partials = partials
            .into_iter()
            .map(|(key, partial)| (Arc::from(key), partial))
            .collect();
        prop_assert_eq!(decode_partials(&encode_partials(&partials)), Ok(partials));
    }

    #[test]
    fn a_truncated_body_is_an_error(rows in prop::collection::vec((0usize..4, any::<i64>()), 1..9), cut in any::<prop::sample::Index>()) {
        let (keys, tuples) = tuples(&rows);
        let body = encode_batch(&keys, &tuples, 0..rows.len());
        let cut = cut.index(body.len() - 8);
        prop_assert!(decode_batch(&body[..cut]).is_err());
    }
}

#[test]
fn an_empty_range_is_a_batch_of_no_tuples() {
    let (keys, tuples) = tuples(&[(1, 1)]);
    let batch = decode_batch(&encode_batch(&keys, &tuples, 0..0)).unwrap();
    assert_eq!(batch, Batch::default());
}

#[test]
fn impossible_partials_are_refused() {
    let good = Partial::of(5);
    for bad in [
        Partial { count: 0, ..good },
        Partial::EMPTY,
        Partial { min: 6, ..good },
        Partial { sum: 6, ..good },
        Partial { sum: 4, ..good },
    ] {
        let body = encode_partials(&vec![(Arc::from("a"), bad)]);
        let error = decode_partials(&body).unwrap_err();
        assert!(error.0.contains("contradicts itself"), "{error}");
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let twice = vec![
        (Arc::from("a"), Partial::of(1)),
        (Arc::from("a"), Partial::of(2)),
    ];
    let error = decode_partials(&encode_partials(&twice)).unwrap_err();
    assert!(error.0.contains("each key once"), "{error}");
}

#[test]
fn a_batch_is_no_answer() {
    let (keys, tuples) = tuples(&[(1, 1)]);
    let error = decode_partials(&encode_batch(&keys, &tuples, 0..1)).unwrap_err();
    assert!(
        error
            .0
            .starts_with("column key is Dictionary(UInt32, Utf8)"),
        "{error}"
    );
}
