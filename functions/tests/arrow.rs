//! Arrow IPC messages, through the public decoder.

mod bodies;

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, UInt64Array,
};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{DictionaryHandling, IpcWriteOptions, StreamWriter};
use windlass_functions::decode::{ARROW_STREAM, BadRow, JSON, decode};
use windlass_functions::stream::{Limits, Stream};
use windlass_functions::tuple::{Dictionaries, Tuples};

use bodies::{NAMES, NOW, batch, plain, stream, variants};

type Row = (String, u64, i64, String, i64);

fn read_as(settings: &Stream, kind: &str, body: &[u8]) -> Result<(Vec<Row>, Vec<BadRow>), String> {
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let outcome = decode(
        settings,
        NOW,
        Some(kind),
        body,
        &mut dictionaries,
        &mut tuples,
    );
    let rows = (0..tuples.len()).map(|row| {
        (
            dictionaries.sources.text(tuples.source[row]).to_string(),
            tuples.seq[row],
            tuples.ts[row],
            dictionaries.keys.text(tuples.key[row]).to_string(),
            tuples.amount[row],
        )
    });
    let rows = rows.collect::<Vec<_>>();
    assert!(
        outcome.is_ok() || rows.is_empty(),
        "a refused message leaves no rows"
    );
    outcome.map(|bad| (rows, bad)).map_err(|refusal| refusal.0)
}

fn read(body: &[u8]) -> Result<(Vec<Row>, Vec<BadRow>), String> {
    read_as(&Stream::default(), ARROW_STREAM, body)
}

fn refusal(body: &[u8]) -> String {
    let reason = read(body).expect_err("the message is refused");
    assert!(reason.len() < 400, "{reason}");
    reason
}

fn four_orders() -> Vec<Row> {
    let row = |source: &str, seq: u64, key: &str, amount| {
        (
            source.to_owned(),
            seq,
            NOW - seq as i64 * 1_000,
            key.to_owned(),
            amount,
        )
    };
    vec![
        row("a", 0, "浙江", 100),
        row("a", 1, "Hunan", -250),
        row("b", 2, "浙江", 300),
        row("a", 3, "浙江", 499),
    ]
}

#[test]
fn every_promised_type_of_column_is_read_compressed_or_not() {
    for (what, columns) in variants() {
        for compression in [None, Some(CompressionType::ZSTD)] {
            let body = stream(&[batch(columns.clone())], compression);
            assert_eq!(read(&body), Ok((four_orders(), vec![])), "{what}");
        }
    }
}

#[test]
fn several_batches_in_one_message_are_all_read() {
    let body = stream(&[batch(plain()), batch(plain())], None);
    let twice = [four_orders(), four_orders()].concat();
    assert_eq!(read(&body), Ok((twice, vec![])));
}

#[test]
fn columns_may_stand_in_any_order_among_others() {
    let extra: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1)]),
        None,
        Some(vec![]),
        Some(vec![None]),
    ]));
    let tags: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter([
        "x", "y", "x", "y",
    ]));
    let mut named: Vec<_> = NAMES.into_iter().zip(plain()).collect();
    named.reverse();
    named.insert(2, ("items", extra));
    named.insert(0, ("tags", tags));
    let body = stream(&[RecordBatch::try_from_iter(named).unwrap()], None);
    assert_eq!(read(&body), Ok((four_orders(), vec![])));
}

#[test]
fn a_dictionary_may_grow_or_be_replaced_between_batches() {
    let of = |keys: [&str; 4]| {
        let mut columns = plain();
        columns[3] = Arc::new(DictionaryArray::<Int32Type>::from_iter(keys));
        batch(columns)
    };
    let batches = [
        of(["浙江", "Hunan", "浙江", "浙江"]),
        of(["浙江", "Hunan", "Hebei", "Hebei"]),
    ];
    for handling in [DictionaryHandling::Delta, DictionaryHandling::Resend] {
        let options = IpcWriteOptions::default().with_dictionary_handling(handling);
        let schema = batches[0].schema();
        let mut body = Vec::new();
        let mut writer = StreamWriter::try_new_with_options(&mut body, &schema, options).unwrap();
        batches
            .iter()
            .for_each(|batch| writer.write(batch).unwrap());
        writer.finish().unwrap();
        drop(writer);
        let (rows, bad) = read(&body).unwrap();
        assert_eq!(bad, vec![]);
        let keys: Vec<_> = rows[4..].iter().map(|row| row.3.as_str()).collect();
        assert_eq!(keys, ["浙江", "Hunan", "Hebei", "Hebei"]);
    }
}

#[test]
fn bad_rows_are_told_from_their_neighbours_and_can_be_replayed_as_json() {
    let known = Some(("a".to_owned(), 1));
    type Edit = (usize, ArrayRef, Option<(String, u64)>, &'static str);
    let edits: Vec<Edit> = vec![
        (
            0,
            Arc::new(StringArray::from(vec![
                Some("a"),
                None,
                Some("b"),
                Some("a"),
            ])),
            None,
            "source is null",
        ),
        (
            1,
            Arc::new(UInt64Array::from(vec![Some(0), None, Some(2), Some(3)])),
            None,
            "seq is null",
        ),
        (
            1,
            Arc::new(Int64Array::from(vec![0, -1, 2, 3])),
            None,
            "seq is -1",
        ),
        (
            1,
            Arc::new(UInt64Array::from(vec![0, u64::MAX, 2, 3])),
            None,
            "seq is 18446744073709551615",
        ),
        (
            2,
            Arc::new(Int64Array::from(vec![
                NOW,
                NOW + 60_001,
                NOW - 2_000,
                NOW - 3_000,
            ])),
            known.clone(),
            "ts is 60 s ahead",
        ),
        (
            2,
            Arc::new(Int64Array::from(vec![
                Some(NOW),
                None,
                Some(NOW - 2_000),
                Some(NOW - 3_000),
            ])),
            known.clone(),
            "ts is null",
        ),
        (
            3,
            Arc::new(StringArray::from(vec!["浙江", "", "浙江", "浙江"])),
            known.clone(),
            "province is empty",
        ),
        (
            3,
            Arc::new(DictionaryArray::<Int32Type>::from_iter([
                Some("浙江"),
                None,
                Some("浙江"),
                Some("浙江"),
            ])),
            known.clone(),
            "province is null",
        ),
        (
            3,
            Arc::new(DictionaryArray::<Int32Type>::new(
                vec![0, 1, 0, 0].into(),
                Arc::new(StringArray::from(vec![Some("浙江"), None])),
            )),
            known.clone(),
            "province is null",
        ),
        (
            4,
            Arc::new(Int64Array::from(vec![
                Some(100),
                None,
                Some(300),
                Some(499),
            ])),
            known.clone(),
            "amount is null",
        ),
        (
            4,
            Arc::new(
                Decimal128Array::from(vec![100, i128::from(i64::MAX) + 1, 300, 499])
                    .with_precision_and_scale(38, 2)
                    .unwrap(),
            ),
            known.clone(),
            "amount is \"92233720368547758.08\", out of range",
        ),
        (
            4,
            Arc::new(
                Decimal128Array::from(vec![1_000, -2_501, 3_000, 4_990])
                    .with_precision_and_scale(38, 3)
                    .unwrap(),
            ),
            known,
            "amount is \"-2.501\"; expected at most 2 decimals",
        ),
    ];
    let neighbours: Vec<_> = four_orders().into_iter().filter(|row| row.1 != 1).collect();
    for (at, column, identity, reason) in edits {
        let mut columns = plain();
        columns[at] = column;
        let (rows, bad) = read(&stream(&[batch(columns)], None)).unwrap();
        assert_eq!(rows, neighbours, "{reason}");
        let [bad] = &bad[..] else {
            panic!("{reason}: {bad:?}");
        };
        assert!(bad.reason.starts_with(reason), "{} / {reason}", bad.reason);
        assert_eq!((bad.row, &bad.identity), (1, &identity), "{reason}");
        // Read back as JSON, the row is bad in the same way: nothing was lost in the telling.
        let (rows, again) = read_as(&Stream::default(), JSON, &bad.body).unwrap();
        assert_eq!(
            (rows.len(), again.len()),
            (0, 1),
            "{}",
            String::from_utf8_lossy(&bad.body)
        );
        assert_eq!(again[0].identity, identity);
    }
}

#[test]
fn at_no_scale_an_amount_is_larger_than_what_is_kept_in_hundredths() {
    let settings = Stream {
        scale: 0,
        ..Stream::default()
    };
    let most = i64::MAX / 100;
    let whole: ArrayRef = Arc::new(Int64Array::from(vec![most, most + 1, -most, 1]));
    let decimal = |scale, values: [i128; 4]| -> ArrayRef {
        let array = Decimal128Array::from(values.to_vec());
        Arc::new(array.with_precision_and_scale(38, scale).unwrap())
    };
    let wide = [most, most + 1, -most, 1].map(i128::from);
    for amounts in [whole, decimal(0, wide), decimal(2, wide.map(|v| v * 100))] {
        let mut columns = plain();
        columns[4] = amounts;
        let body = stream(&[batch(columns)], None);
        let (rows, bad) = read_as(&settings, ARROW_STREAM, &body).unwrap();
        let kept: Vec<_> = rows.iter().map(|row| row.4).collect();
        assert_eq!(kept, [most, -most, 1]);
        assert_eq!((bad.len(), bad[0].row), (1, 1));
        assert!(bad[0].reason.contains("out of range"), "{}", bad[0].reason);
    }
}

#[test]
fn a_body_of_another_shape_is_refused_by_naming_the_column() {
    let mut columns = plain();
    columns[4] = Arc::new(Float64Array::from(vec![1.0; 4]));
    let reason = refusal(&stream(&[batch(columns)], None));
    assert_eq!(
        reason,
        "column amount is Float64; expected decimal128, or int64 minor units"
    );

    let few = NAMES.into_iter().zip(plain()).take(4);
    let few = RecordBatch::try_from_iter(few).unwrap();
    let reason = refusal(&stream(&[few], None));
    assert!(reason.starts_with("column amount (decimal128"), "{reason}");
    assert!(reason.ends_with("the schema has source, seq, ts, province"));

    let twice = NAMES
        .into_iter()
        .zip(plain())
        .chain([("seq", plain()[1].clone())]);
    let twice = RecordBatch::try_from_iter(twice).unwrap();
    let reason = refusal(&stream(&[twice], None));
    assert_eq!(
        reason,
        "column seq stands twice in the schema; expected it once"
    );
}

#[test]
fn a_stream_cut_anywhere_but_between_messages_is_refused() {
    let whole = stream(&[batch(plain())], None);
    for length in 0..whole.len() - 8 {
        let reason = refusal(&whole[..length]);
        assert!(!reason.is_empty());
    }
    let reason = refusal(&whole[..whole.len() - 9]);
    assert!(
        reason.starts_with("the Arrow stream is truncated"),
        "{reason}"
    );
    // The mark of the end is optional in the format.
    assert_eq!(read(&whole[..whole.len() - 8]), Ok((four_orders(), vec![])));
}

#[test]
fn a_stream_without_rows_or_with_something_after_its_end_is_refused() {
    let empty = stream(&[batch(plain()).slice(0, 0)], None);
    assert_eq!(
        refusal(&empty),
        "the message holds no tuple; expected at least one"
    );
    assert_eq!(
        refusal(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        "the Arrow stream ends before its schema"
    );
    let mut long = stream(&[batch(plain())], None);
    long.push(0);
    assert_eq!(
        refusal(&long),
        "1 bytes follow the end of the Arrow stream; expected none"
    );
}

#[test]
fn lz4_is_refused_by_its_header_alone() {
    let zstd = stream(&[batch(plain())], Some(CompressionType::ZSTD));
    // The codec is a byte of the header: 1 is ZSTD, 0 is LZ4.
    let refused = (0..zstd.len()).filter(|&at| zstd[at] == 1).any(|at| {
        let mut lz4 = zstd.clone();
        lz4[at] = 0;
        read(&lz4)
            == Err("the Arrow stream is LZ4-compressed; expected none or ZSTD compression".into())
    });
    assert!(refused);
}

#[test]
fn what_would_unpack_to_more_than_allowed_is_refused_before_it_is_unpacked() {
    let rows = 1 << 18;
    let columns: [ArrayRef; 5] = [
        Arc::new(DictionaryArray::<Int32Type>::from_iter(vec!["a"; rows])),
        Arc::new(UInt64Array::from(vec![7; rows])),
        Arc::new(Int64Array::from(vec![NOW; rows])),
        Arc::new(DictionaryArray::<Int32Type>::from_iter(vec!["b"; rows])),
        Arc::new(Int64Array::from(vec![1; rows])),
    ];
    let bomb = stream(&[batch(columns)], Some(CompressionType::ZSTD));
    assert!(bomb.len() < 10_000, "{} bytes", bomb.len());
    let small = Stream {
        limits: Limits {
            decompressed_bytes: 1 << 20,
            ..Limits::default()
        },
        ..Stream::default()
    };
    let reason = read_as(&small, ARROW_STREAM, &bomb).unwrap_err();
    assert!(
        reason.contains("unpack to more than the 1048576 bytes"),
        "{reason}"
    );
    assert_eq!(read(&bomb).unwrap().0.len(), rows);

    let claim = (rows as i64 * 8).to_le_bytes();
    let at = bomb.windows(8).rposition(|bytes| bytes == claim).unwrap();
    for forged in [i64::MAX, 1 << 40, -2, i64::MIN] {
        let mut body = bomb.clone();
        body[at..at + 8].copy_from_slice(&forged.to_le_bytes());
        let reason = refusal(&body);
        assert!(
            reason.contains("unpack") || reason.contains("how long"),
            "{reason}"
        );
    }
    let mut body = bomb;
    body[at..at + 8].copy_from_slice(&1_000i64.to_le_bytes());
    assert!(refusal(&body).starts_with("the Arrow batch is invalid"));
}

#[test]
fn an_index_outside_its_dictionary_is_refused() {
    let mut columns = plain();
    columns[3] = Arc::new(DictionaryArray::<Int32Type>::new(
        vec![1, 2, 1, 3].into(),
        Arc::new(StringArray::from(vec!["a", "b", "c", "d"])),
    ));
    let body = stream(&[batch(columns)], None);
    let indices: Vec<u8> = [1i32, 2, 1, 3]
        .into_iter()
        .flat_map(i32::to_le_bytes)
        .collect();
    let at = body.windows(16).position(|bytes| bytes == indices).unwrap();
    for forged in [4, i32::MAX, -1, i32::MIN] {
        let mut body = body.clone();
        body[at..at + 4].copy_from_slice(&forged.to_le_bytes());
        assert!(refusal(&body).starts_with("the Arrow batch is invalid"));
    }
}
