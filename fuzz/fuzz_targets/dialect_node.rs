#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockhop_fuzz::cluster::dialect_node(data));
