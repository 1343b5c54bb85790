//! Arrow IPC of strangers: rows or a reason. A panic that the decoder catches ends the fuzzer
//! all the same, for it should have been a reason.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass_functions::decode::{ARROW_STREAM, decode};
use windlass_functions::stream::Stream;
use windlass_functions::tuple::{Dictionaries, Tuples};

fuzz_target!(|body: &[u8]| {
    let (mut dictionaries, mut tuples) = (Dictionaries::default(), Tuples::default());
    let outcome = decode(
        &Stream::default(),
        1_794_355_200_000,
        Some(ARROW_STREAM),
        body,
        &mut dictionaries,
        &mut tuples,
    );
    assert_eq!(
        outcome.is_err(),
        outcome.map_or(0, |bad| bad.len()) + tuples.len() == 0
    );
});
