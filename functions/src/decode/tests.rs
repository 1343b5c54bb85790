use super::*;
use crate::stream::Limits;

/// 2026-11-11T00:00:00Z.
const NOW: i64 = 1_794_355_200_000;

/// What became of a message: good rows as (source, seq, ts, key, amount), and bad ones.
#[derive(Debug)]
struct Decoded {
    good: Vec<(String, u64, i64, String, i64)>,
    bad: Vec<BadRow>,
}

fn decode_as(stream: &Stream, content_type: &str, body: &[u8]) -> Result<Decoded, String> {
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let outcome = decode(
        stream,
        NOW,
        Some(content_type),
        body,
        &mut dictionaries,
        &mut tuples,
    );
    if outcome.is_err() {
        assert_eq!(
            tuples,
            Tuples::default(),
            "a refused message leaves no rows"
        );
    }
    let good = (0..tuples.len())
        .map(|row| {
            (
                dictionaries.sources.text(tuples.source[row]).to_string(),
                tuples.seq[row],
                tuples.ts[row],
                dictionaries.keys.text(tuples.key[row]).to_string(),
                tuples.amount[row],
            )
        })
        .collect();
    outcome
        .map(|bad| Decoded { good, bad })
        .map_err(|refusal| refusal.0)
}

fn json(body: impl AsRef<[u8]>) -> Result<Decoded, String> {
    decode_as(&Stream::default(), JSON, body.as_ref())
}

fn ndjson(body: impl AsRef<[u8]>) -> Decoded {
    decode_as(&Stream::default(), NDJSON, body.as_ref()).unwrap()
}

fn order(seq: u64) -> String {
    format!(r#"{{"source":"a","seq":{seq},"ts":{NOW},"province":"浙江","amount":12.34}}"#)
}

fn good(seq: u64) -> (String, u64, i64, String, i64) {
    ("a".into(), seq, NOW, "浙江".into(), 1234)
}

/// One order with `field` replaced by `value`.
fn with(field: &str, value: &str) -> String {
    let mut fields = vec![
        ("source", "\"a\"".to_owned()),
        ("seq", "7".to_owned()),
        ("ts", NOW.to_string()),
        ("province", "\"b\"".to_owned()),
        ("amount", "1".to_owned()),
    ];
    for (name, old) in &mut fields {
        if *name == field {
            value.clone_into(old);
        }
    }
    let fields: Vec<_> = fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", fields.join(","))
}

#[test]
fn one_object_or_an_array_of_them_is_taken_in() {
    assert_eq!(json(order(0)).unwrap().good, [good(0)]);
    let array = format!("\n[ {} ,\n{}\t] ", order(0), order(1));
    assert_eq!(json(array).unwrap().good, [good(0), good(1)]);
}

#[test]
fn content_types_may_carry_parameters_and_capitals() {
    for content_type in [
        "application/json; charset=utf-8",
        "Application/JSON",
        " application/json ;x=y",
    ] {
        let decoded = decode_as(&Stream::default(), content_type, order(0).as_bytes());
        assert_eq!(decoded.unwrap().good, [good(0)]);
    }
}

#[test]
fn an_unknown_content_type_is_refused_by_naming_those_accepted() {
    for content_type in ["text/csv", "", "application/json2"] {
        let reason = decode_as(&Stream::default(), content_type, b"x").unwrap_err();
        assert!(reason.contains("application/x-ndjson"), "{reason}");
    }
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let stream = Stream::default();
    let refusal = decode(&stream, NOW, None, b"{}", &mut dictionaries, &mut tuples).unwrap_err();
    assert!(refusal.0.starts_with("the message has no content type"));
}

#[test]
fn times_and_amounts_are_read_in_every_form_promised() {
    for (ts, expected) in [
        ("0".to_owned(), 0),
        (format!("\"{NOW}\""), NOW),
        ("\"2026-11-11T00:00:00Z\"".to_owned(), NOW),
        ("\"2026-11-11T08:00:00.0019+08:00\"".to_owned(), NOW + 1),
        (format!("{}", NOW + 60_000), NOW + 60_000),
    ] {
        assert_eq!(json(with("ts", &ts)).unwrap().good[0].2, expected, "{ts}");
    }
    for (amount, expected) in [
        ("\"12.34\"", 1234),
        ("-0.5", -50),
        ("1e2", 10_000),
        ("12.3400", 1234),
        ("0.1", 10),
    ] {
        assert_eq!(
            json(with("amount", amount)).unwrap().good[0].4,
            expected,
            "{amount}"
        );
    }
}

#[test]
fn escapes_unknown_fields_and_any_order_of_fields_are_fine() {
    let body = format!(
        r#"{{"items":[{{"sku":"}}"}}],"amount":"1.5","pro\u0076ince":"\u6d59\"","ts":{NOW},"paid":true,"s\u0065q":3,"source":"a"}}"#
    );
    let row = ("a".into(), 3, NOW, "浙\"".into(), 150);
    assert_eq!(json(body).unwrap().good, [row]);
}

#[test]
fn a_bad_row_says_what_is_wrong_and_keeps_its_identity_where_legible() {
    let long = format!("\"{}\"", "x".repeat(100_000));
    let ahead = (NOW + 60_001).to_string();
    let known = Some(("a".to_owned(), 7));
    for (field, value, identity, reason) in [
        ("seq", "", None, "seq is missing; a producer must number"),
        ("seq", "-1", None, "seq is -1; expected an integer from 0"),
        ("seq", "1.5", None, "seq is 1.5"),
        ("seq", "\"7\"", None, "seq is \"7\""),
        ("seq", "18446744073709551615", None, "seq is 1844"),
        ("seq", "null", None, "seq is null"),
        ("source", "", None, "source is missing"),
        ("source", "\"\"", None, "source is empty"),
        ("source", "5", None, "source is a number; expected text"),
        ("source", &long, None, "source is 100000 bytes"),
        (
            "source",
            r#""a\u0000""#,
            None,
            r#"source is "a\0"; expected text without"#,
        ),
        ("source", r#""\ud800""#, None, "source is not legible text"),
        ("province", "\"\"", known.clone(), "province is empty"),
        ("province", &long, known.clone(), "province is 100000 bytes"),
        ("province", r#""\n""#, known.clone(), r#"province is "\n""#),
        ("province", "[]", known.clone(), "province is an array"),
        ("ts", "", known.clone(), "ts is missing"),
        (
            "ts",
            "\"yesterday\"",
            known.clone(),
            "ts is \"yesterday\"; expected whole",
        ),
        (
            "ts",
            "1.5",
            known.clone(),
            "ts is 1.5; expected whole milliseconds",
        ),
        ("ts", "-1", known.clone(), "ts is -1 ms, before 1970"),
        (
            "ts",
            "253402300800000",
            known.clone(),
            "ts is 253402300800000 ms, after the year 9999",
        ),
        (
            "ts",
            &ahead,
            known.clone(),
            "ts is 60 s ahead of this machine's clock",
        ),
        ("amount", "", known.clone(), "amount is missing"),
        (
            "amount",
            "12.345",
            known.clone(),
            "amount is \"12.345\"; expected at most 2 decimals",
        ),
        (
            "amount",
            "1e300",
            known.clone(),
            "amount is \"1e300\", out of range",
        ),
        (
            "amount",
            "true",
            known.clone(),
            "amount is true; expected a decimal",
        ),
        (
            "amount",
            "\"\"",
            known,
            "amount is \"\"; expected a decimal",
        ),
    ] {
        let body = with(field, value);
        let all = format!("[{},{body},{}]", order(0), order(1));
        let decoded = json(all).unwrap();
        assert_eq!(decoded.good, [good(0), good(1)], "neighbours of {body}");
        let [bad] = &decoded.bad[..] else {
            panic!("{field} {value}: {:?}", decoded.bad);
        };
        assert!(bad.reason.starts_with(reason), "{} / {reason}", bad.reason);
        assert!(bad.reason.len() < 300, "{}", bad.reason);
        assert_eq!((bad.row, &bad.identity), (1, &identity), "{field} {value}");
        assert_eq!(bad.body, body.as_bytes());
    }
}

#[test]
fn an_amount_is_one_that_a_store_can_keep_in_hundredths_at_every_scale() {
    for (scale, most) in [(0, i64::MAX / 100), (1, i64::MAX / 10), (2, i64::MAX)] {
        let stream = Stream {
            scale,
            ..Stream::default()
        };
        let text = stream.decimal(most.into());
        let above = stream.decimal(i128::from(most) + 1);
        let body = format!("[{},{}]", with("amount", &text), with("amount", &above));
        let decoded = decode_as(&stream, JSON, body.as_bytes()).unwrap();
        assert_eq!(decoded.good[0].4, most);
        let reason = format!("amount is \"{above}\", out of range; expected what fits 64 bits");
        assert!(decoded.bad[0].reason.starts_with(&reason), "{decoded:?}");
    }
}

#[test]
fn a_field_that_stands_twice_is_a_bad_row_known_by_the_fields_that_do_not() {
    let twice = |field: &str| with("amount", "1").replacen('{', &format!("{{\"{field}\":1,"), 1);
    let bad = json(twice("ts")).unwrap().bad.remove(0);
    assert_eq!(bad.reason, "ts stands twice in one object");
    assert_eq!(bad.identity, Some(("a".into(), 7)));
    let bad = json(twice("seq")).unwrap().bad.remove(0);
    assert_eq!(bad.identity, None);
}

#[test]
fn only_allowed_keys_are_accepted_if_there_is_a_list() {
    let stream = Stream {
        allowed_keys: ["浙江".to_owned()].into(),
        ..Stream::default()
    };
    let body = format!("[{},{}]", order(0), with("seq", "1"));
    let decoded = decode_as(&stream, JSON, body.as_bytes()).unwrap();
    assert_eq!(decoded.good, [good(0)]);
    assert!(decoded.bad[0].reason.contains("allowed keys do not list"));
}

#[test]
fn a_body_that_is_not_json_is_refused_whole() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = with("amount", &format!("{}1{}", "[".repeat(99), "]".repeat(99)));
    let first = order(0);
    for (body, reason) in [
        (String::new(), "the body is empty"),
        (" \n".into(), "the body is only white space"),
        ("[]".into(), "the message holds no tuple"),
        ("17".into(), "expected a JSON object or an array"),
        (first[..40].into(), "not JSON at byte 0"),
        (format!("[{first}"), "not JSON at byte"),
        (format!("[{first},]"), "not JSON at byte"),
        (format!("[{first}{first}]"), "not JSON at byte"),
        (
            format!("{first}\n{first}"),
            "not JSON at byte 77: expected the end",
        ),
        (with("amount", "NaN"), "not JSON at byte 0"),
        (with("amount", "01"), "not JSON at byte 0"),
        ("[".repeat(100_000), "not JSON at byte"),
        (deep, "the value at byte 1 is nested more than 32 deep"),
        (deep_field, "the value at byte 0 is nested"),
    ] {
        let refusal = json(&body).unwrap_err();
        assert!(refusal.starts_with(reason), "{refusal} / {reason}");
        assert!(refusal.len() < 300);
    }
    let refusal = json(b"{\"source\":\"\xff\"}").unwrap_err();
    assert!(refusal.starts_with("the body is not UTF-8 from byte 11"));
}

#[test]
fn one_bad_line_holds_up_no_other() {
    for (line, reason) in [
        (&b"{\"source\":"[..], "the line is not JSON"),
        (b"nonsense", "the line is not JSON"),
        (b"{} {}", "the line is not JSON"),
        (b"{}", "source is missing"),
        (b"\xff\xfe", "the line is not UTF-8"),
        (b"[1]", "expected a JSON object, came an array"),
        (&[b'['; 1_000], "the line is not JSON"),
        (with("amount", "NaN").as_bytes(), "the line is not JSON"),
    ] {
        let body = [order(0).as_bytes(), line, b"\r", order(1).as_bytes()].join(&b'\n');
        let decoded = ndjson(body);
        assert_eq!(decoded.good, [good(0), good(1)]);
        assert_eq!(decoded.bad.len(), 1);
        assert!(
            decoded.bad[0].reason.starts_with(reason),
            "{:?}",
            decoded.bad[0]
        );
        assert_eq!((&decoded.bad[0].body[..], decoded.bad[0].row), (line, 1));
    }
}

#[test]
fn the_limits_of_a_message_hold() {
    let limits = |limits: Limits| Stream {
        limits,
        ..Stream::default()
    };
    let three = format!("[{},{},{}]", order(0), with("seq", "1"), order(2));
    for (limit, reason) in [
        (
            Limits {
                message_bytes: 100,
                ..Limits::default()
            },
            "more than the 100 allowed",
        ),
        (
            Limits {
                rows: 2,
                ..Limits::default()
            },
            "more than the 2 rows allowed",
        ),
        (
            Limits {
                keys: 1,
                ..Limits::default()
            },
            "more than the 1 distinct keys allowed",
        ),
    ] {
        let refusal = decode_as(&limits(limit), JSON, three.as_bytes()).unwrap_err();
        assert!(refusal.contains(reason), "{refusal}");
    }
    let few = limits(Limits {
        decompressed_bytes: 10_000,
        ..Limits::default()
    });
    let refusal = decode_as(&few, NDJSON, "{}\n".repeat(1_000).as_bytes()).unwrap_err();
    assert!(refusal.starts_with("too many bad rows"), "{refusal}");
}

#[test]
fn keys_met_in_earlier_messages_do_not_count_against_this_one() {
    let stream = Stream {
        limits: Limits {
            keys: 1,
            ..Limits::default()
        },
        ..Stream::default()
    };
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    for body in [order(0), with("seq", "1"), order(2)] {
        let body = body.as_bytes();
        decode(
            &stream,
            NOW,
            Some(JSON),
            body,
            &mut dictionaries,
            &mut tuples,
        )
        .unwrap();
    }
    assert_eq!(tuples.len(), 3);
}

#[test]
fn a_message_holds_so_many_sources_and_windows_at_most() {
    let stream = Stream {
        limits: Limits {
            keys: 2,
            ..Limits::default()
        },
        ..Stream::default()
    };
    let message = |rows: &[(&str, i64)]| {
        let rows = rows.iter().enumerate().map(|(seq, (source, second))| {
            let ts = (NOW - second * 1_000).to_string();
            let order = order(seq as u64).replace(&NOW.to_string(), &ts);
            order.replace("\"a\"", &format!("{source:?}"))
        });
        decode_as(
            &stream,
            NDJSON,
            rows.collect::<Vec<_>>().join("\n").as_bytes(),
        )
    };
    message(&[("a", 0), ("b", 9), ("a", 9), ("b", 0)]).unwrap();
    let sources = message(&[("a", 0), ("b", 0), ("c", 0)]).unwrap_err();
    assert!(
        sources.contains("more than the 2 distinct sources"),
        "{sources}"
    );
    let windows = message(&[("a", 0), ("a", 5), ("a", 9)]).unwrap_err();
    assert!(windows.contains("more than the 2 windows"), "{windows}");
}

#[test]
fn fields_may_be_named_with_what_json_must_escape() {
    let mut stream = Stream::default();
    stream.fields.key = "a\"b\\n".into();
    let escaped = order(0).replace("province", r#"a\"b\\n"#);
    let decoded = decode_as(&stream, JSON, escaped.as_bytes()).unwrap();
    assert_eq!(decoded.good, [good(0)]);
    let raw = order(0).replace("province", "a\"b\\n");
    decode_as(&stream, JSON, raw.as_bytes()).unwrap_err();
}
