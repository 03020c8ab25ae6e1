#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_syslog_fuzz::targets::formats::run(data));
