#![no_main]

libfuzzer_sys::fuzz_target!(|input: &str| {
    iotctl::fuzzing::mapping(input);
});
