use super::{Encoder, LONGEST, max_len};
use crate::testing::noise;
use proptest::prelude::*;

/// Encodes `plain` into a buffer of just `max_len`, and checks with snap that it decodes to the same.
fn round_trip(encoder: &mut Encoder, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0xa5; max_len(plain.len())];
    let length = encoder.encode(plain, &mut out);
    out.truncate(length);
    assert!(snap::raw::Decoder::new().decompress_vec(&out).unwrap() == plain);
    out
}

/// Runs, repeats at all kinds of distance, words and noise.
fn plain() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..100),
        (any::<u8>(), 1..400usize).prop_map(|(byte, length)| vec![byte; length]),
        "[a-c ]{1,60}".prop_map(String::into_bytes),
        "(status=[0-3]{2} |GET /[ab]{3}\n){1,20}".prop_map(String::into_bytes),
        (1..20_000usize).prop_map(noise),
    ];
    let parts = proptest::collection::vec((part, any::<prop::sample::Index>(), 0..300usize), 0..40);
    parts.prop_map(|parts| {
        let mut plain = Vec::new();
        for (part, from, length) in parts {
            plain.extend(part);
            if !plain.is_empty() {
                let from = from.index(plain.len());
                plain.extend_from_within(from..plain.len().min(from + length));
            }
        }
        plain.truncate(LONGEST);
        plain
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn decodes_to_the_same(blocks in proptest::collection::vec(plain(), 1..4)) {
        let mut used = Encoder::new();
        for block in &blocks {
            prop_assert_eq!(round_trip(&mut used, block), round_trip(&mut Encoder::new(), block));
        }
    }
}

#[test]
fn all_short_lengths() {
    let noise = noise(300);
    let words: Vec<u8> = b"to be or not to be, that is the question ".repeat(8);
    let mut encoder = Encoder::new();
    for length in 0..=300 {
        for plain in [&noise, &words, &vec![0; 300], &vec![255; 300]] {
            round_trip(&mut encoder, &plain[..length]);
        }
    }
}

#[test]
fn lengths_around_the_sizes_of_the_table_and_the_longest() {
    let noise = noise(LONGEST);
    let words = b"the quick brown fox, 0123456789 ".repeat(LONGEST / 32);
    let mut encoder = Encoder::new();
    for limit in [0x200, 0x400, 0x1000, 0x4000, LONGEST] {
        for length in limit - 40..=(limit + 2).min(LONGEST) {
            for plain in [&noise, &words, &vec![0; LONGEST]] {
                round_trip(&mut encoder, &plain[..length]);
            }
        }
    }
}

/// Copies of all lengths from 1 to 300, at offsets around where the forms change.
#[test]
fn copies_of_all_lengths() {
    let mut encoder = Encoder::new();
    for offset in [1, 2, 3, 7, 8, 9, 2047, 2048, 2049, 40_000] {
        let mut start = noise(offset);
        for length in 1..=300 {
            start.truncate(offset);
            let first = start[0];
            start.extend((0..length).map(|at| if offset < 2000 { first } else { at as u8 }));
            start.extend_from_within(..length.min(offset));
            start.push(!first);
            round_trip(&mut encoder, &start);
        }
    }
}

#[test]
fn sizes_stay_near_those_of_snap() {
    let words = (0..4000_u32).map(|i| format!("item {} has {} of {}\n", i, i * i % 977, i % 13));
    let plain = words.collect::<String>().into_bytes();
    let mut snap = snap::raw::Encoder::new();
    for block in plain.chunks(LONGEST) {
        let ours = round_trip(&mut Encoder::new(), block).len();
        assert!(
            ours * 100 <= snap.compress_vec(block).unwrap().len() * 102,
            "{ours}"
        );
    }
}
