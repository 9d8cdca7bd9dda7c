#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sockhop_fuzz::codec::payload_v3(data));
