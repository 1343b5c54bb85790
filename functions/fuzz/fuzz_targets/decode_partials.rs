//! What a worker answers: partials that some values could have, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass_functions::batch::{decode_partials, encode_partials};

fuzz_target!(|body: &[u8]| {
    if let Ok(partials) = decode_partials(body) {
        assert_eq!(decode_partials(&encode_partials(&partials)), Ok(partials));
    }
});
