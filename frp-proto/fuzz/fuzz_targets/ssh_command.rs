#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frps_rs::fuzz_ssh_command(data));
