use proptest::prelude::*;

use super::*;

const NAMES: [&str; 5] = ["source", "seq", "ts", "province", "amount"];

/// Text near enough to an order that the scanner takes some of it and must leave the rest.
fn near_order() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "\"source\"",
        "\"seq\"",
        "\"ts\"",
        "\"province\"",
        "\"amount\"",
        "\"other\"",
        "\"\"",
        "\"s\\u0065q\"",
        "seq",
    ]);
    let value = prop_oneof![
        prop::sample::select(vec![
            "\"a\"",
            "\"\"",
            "\"\\\"\"",
            "\"浙江\"",
            "\"a\tb\"",
            "0",
            "-0",
            "-",
            "01",
            "1.",
            ".5",
            "1.50",
            "1e2",
            "-12.34",
            "18446744073709551615",
            "true",
            "false",
            "null",
            "nul",
            "truely",
            "NaN",
            "[]",
            "{}",
            "[1,{\"a\":2}]",
            "",
            "\"",
        ])
        .prop_map(str::to_owned),
        "-?[0-9]{1,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?",
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    let space = prop::sample::select(vec!["", "", "", " ", "\n\t "]);
    let colon = prop::sample::select(vec![":", ":", ":", "", "::"]);
    let field = (name, space.clone(), colon, value, space.clone()).prop_map(
        |(name, before, colon, value, after)| {
            format!("{name}{before}{colon}{after}{value}{before}")
        },
    );
    let comma = prop::sample::select(vec![",", ",", ",", ", ", "", ",,"]);
    let close = prop::sample::select(vec!["}", "}", "}", "", "]", ",}"]);
    (prop::collection::vec(field, 0..6), comma, space, close)
        .prop_map(|(fields, comma, space, close)| format!("{{{space}{}{close}", fields.join(comma)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_the_scanner_accepts_the_complete_parser_reads_the_same(text in near_order()) {
        if let Some((fields, end)) = scan::object(&text, 0, &NAMES) {
            prop_assert_eq!(end, text.len());
            let mut parser = serde_json::Deserializer::from_str(&text);
            let object = parser.deserialize_map(FieldsOf(NAMES)).unwrap();
            prop_assert_eq!(object.twice, None);
            prop_assert_eq!(object.fields, fields);
        }
    }

    #[test]
    fn the_scanner_takes_every_plain_order(
        source in "[a-z]{1,9}", seq: u64, ts: i64, province in "\\p{Han}{1,4}", amount in "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,2})?",
        order in Just(vec![0, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let values = [
            format!("\"{source}\""), seq.to_string(), ts.to_string(), format!("\"{province}\""), amount,
        ];
        let fields: Vec<_> = order.iter().map(|&at| format!("\"{}\": {}", NAMES[at], values[at])).collect();
        let text = format!("{{ \"note\": null, {} }}", fields.join(","));
        let (found, end) = scan::object(&text, 0, &NAMES).unwrap();
        prop_assert_eq!(end, text.len());
        prop_assert_eq!(found.map(str::to_owned), values);
    }
}
