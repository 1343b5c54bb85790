//! JSON and NDJSON of strangers: rows or a reason, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass_functions::decode::{JSON, NDJSON, decode};
use windlass_functions::stream::Stream;
use windlass_functions::tuple::{Dictionaries, Tuples};

fuzz_target!(|body: &[u8]| {
    let stream = Stream::default();
    for content_type in [JSON, NDJSON] {
        let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
        let outcome = decode(
            &stream,
            1_794_355_200_000,
            Some(content_type),
            body,
            &mut dictionaries,
            &mut tuples,
        );
        assert_eq!(
            outcome.is_err(),
            outcome.map_or(0, |bad| bad.len()) + tuples.len() == 0
        );
    }
});
