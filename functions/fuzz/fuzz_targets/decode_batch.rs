//! What a worker is handed: a batch that a function can map, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use windlass_functions::batch::decode_batch;
use windlass_functions::function::{Function, Gmv};

fuzz_target!(|body: &[u8]| {
    if let Ok(batch) = decode_batch(body) {
        Gmv.map(&batch).expect("gmv digests any batch");
    }
});
