#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ceilometer_ha_fuzz::targets::run("spool", bytes));
