use super::*;
use crate::testing::{Trickle, unhex};
use futures::FutureExt;
use proptest::prelude::*;
use std::io::{Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Polls a future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn over(end: tokio::io::DuplexStream) -> SnappyStream {
    SnappyStream::new(Conn::Other(Box::new(end)))
}

/// What the stream sends for these writes.
fn sent(writes: &[&[u8]]) -> Vec<u8> {
    now(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut stream = over(near);
        for write in writes {
            stream.write_all(write).await.unwrap();
        }
        drop(stream);
        let mut bytes = Vec::new();
        far.read_to_end(&mut bytes).await.unwrap();
        bytes
    })
}

/// What the stream reads from these bytes, `step` at a time.
fn received(bytes: &[u8], step: usize) -> io::Result<Vec<u8>> {
    now(async {
        let mut stream = SnappyStream::new(Trickle::conn(bytes, step));
        let mut plain = Vec::new();
        stream.read_to_end(&mut plain).await?;
        Ok(plain)
    })
}

fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind];
    chunk.extend(&(body.len() as u32).to_le_bytes()[..3]);
    chunk.extend(body);
    chunk
}

fn fault(chunks: &[Vec<u8>]) -> String {
    received(&[IDENTIFIER.to_vec(), chunks.concat()].concat(), usize::MAX)
        .unwrap_err()
        .to_string()
}

#[test]
fn golden_chunks() {
    let first = unhex("ff060000734e61507059 01090000bb1f1c1968656c6c6f");
    let second = unhex("000d00001fa8b5fd640061fe01008a0100");
    let bytes = sent(&[b"hello", &[b'a'; 100]]);
    assert_eq!(bytes, [first, second].concat());
    let plain = [&b"hello"[..], &[b'a'; 100]].concat();
    assert_eq!(received(&bytes, 1).unwrap(), plain);
}

#[tokio::test]
async fn every_write_leaves_at_once() {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut near, mut far) = (over(near), over(far));
    let mut buf = [0; 64];
    for text in ["one", "two"] {
        near.write_all(text.as_bytes()).await.unwrap();
        let n = far.read(&mut buf).await.unwrap();
        assert_eq!(&buf[..n], text.as_bytes());
    }
    near.shutdown().await.unwrap();
    assert_eq!(far.read(&mut buf).await.unwrap(), 0);
}

#[test]
fn a_large_write_leaves_in_as_few_as_fit() {
    let taken = |data: &[u8]| {
        let (near, _far) = tokio::io::duplex(1);
        let mut stream = over(near);
        let taken = now(stream.write(data)).unwrap();
        assert!((1..SIZE).contains(&stream.outgoing.len()));
        taken
    };
    assert_eq!(taken(&vec![7; 1 << 20]), 1 << 20);
    let mut noise = vec![0; 1 << 20];
    getrandom::fill(&mut noise).unwrap();
    assert_eq!(
        taken(&noise),
        MAX_PLAIN,
        "another chunk's worst would not fit"
    );
}

#[test]
fn chunk_rules() {
    // The identifier comes first, and may come again.
    let corrupt = "snappy: corrupt input";
    let hello = unhex("01090000bb1f1c1968656c6c6f");
    assert_eq!(received(&hello, 99).unwrap_err().to_string(), corrupt);
    let again = [&IDENTIFIER[..], &hello, &IDENTIFIER, &hello].concat();
    assert_eq!(received(&again, 3).unwrap(), b"hellohello");
    assert_eq!(fault(&[chunk(0xff, b"sNaPpy")]), corrupt);
    assert_eq!(fault(&[chunk(0xff, b"sNaPpY!")]), corrupt);

    for kind in [0x02, 0x7f] {
        assert_eq!(fault(&[chunk(kind, b"")]), "snappy: unsupported input");
    }
    for kind in [0x80, 0xfd, 0xfe] {
        let skipped = [&IDENTIFIER[..], &chunk(kind, &vec![1; MAX_BODY]), &hello].concat();
        assert_eq!(received(&skipped, 1000).unwrap(), b"hello");
        assert_eq!(
            fault(&[chunk(kind, &vec![1; MAX_BODY + 1])]),
            "snappy: unsupported input"
        );
    }
    assert_eq!(
        fault(&[chunk(0x00, &vec![0; MAX_BODY + 1])]),
        "snappy: unsupported input"
    );
    // More than 65536 bytes, said or sent.
    assert_eq!(fault(&[chunk(0x01, &vec![0; 4 + MAX_PLAIN + 1])]), corrupt);
    assert_eq!(fault(&[chunk(0x00, &unhex("00000000 818004"))]), corrupt);
    // No checksum; a wrong one; no block.
    assert_eq!(fault(&[chunk(0x01, b"abc")]), corrupt);
    assert_eq!(fault(&[chunk(0x01, b"abcdefgh")]), corrupt);
    assert_eq!(
        fault(&[chunk(0x00, &unhex("1fa8b5fd 640061fe01008a01"))]),
        corrupt
    );
    assert_eq!(
        fault(&[chunk(0x00, &unhex("1fa8b5fe 640061fe01008a0100"))]),
        corrupt
    );
    // Empty data is no end of the stream.
    let empty = chunk(0x01, &masked_checksum(b"").to_le_bytes());
    let bytes = [&IDENTIFIER[..], &empty, &hello].concat();
    assert_eq!(received(&bytes, 99).unwrap(), b"hello");
}

#[test]
fn an_end_inside_a_chunk_is_unexpected() {
    let bytes = sent(&[b"hello", b"world"]);
    let mut ends = 0;
    for n in 0..bytes.len() {
        match received(&bytes[..n], 7) {
            Ok(plain) => {
                assert!(b"helloworld".starts_with(&plain));
                ends += 1;
            }
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::UnexpectedEof),
        }
    }
    assert_eq!(
        ends, 3,
        "before anything, after the identifier, after hello"
    );
}

#[test]
fn what_came_before_a_fault_is_given_first() {
    let bytes = [sent(&[b"hello"]), chunk(0x02, b"")].concat();
    now(async {
        let mut stream = SnappyStream::new(Trickle::conn(&bytes, usize::MAX));
        let mut buf = [0; 64];
        assert_eq!(stream.read(&mut buf).await.unwrap(), 5);
        for _ in 0..2 {
            let e = stream.read(&mut buf).await.unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::InvalidData);
        }
    });
}

#[test]
fn an_idle_stream_holds_no_buffer() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (near, far) = tokio::io::duplex(1 << 20);
        let (mut near, mut far) = (over(near), over(far));
        near.write_all(&vec![1; 100_000]).await.unwrap();
        far.read_exact(&mut vec![0; 100_000]).await.unwrap();
        let mut byte = [0];
        assert!(far.read(&mut byte).now_or_never().is_none());
        assert!(near.outgoing.is_empty());
        for buffer in [&far.incoming, &far.plain] {
            assert_eq!(buffer.held(), 0);
        }
    });
}

/// Data that compresses, and data that does not.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..150_000);
    let runs = prop::collection::vec((any::<u8>(), 1..2_000usize), 0..200)
        .prop_map(|runs| runs.into_iter().flat_map(|(b, n)| vec![b; n]).collect());
    prop_oneof![noise, runs]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn round_trip_in_any_pieces(data in data(), size in 1..100_000usize, step in 1..100_000usize) {
        let writes: Vec<&[u8]> = data.chunks(size).collect();
        let bytes = sent(&writes);
        prop_assert_eq!(&received(&bytes, step).unwrap(), &data);
        let mut oracle = Vec::new();
        snap::read::FrameDecoder::new(&bytes[..]).read_to_end(&mut oracle).unwrap();
        prop_assert_eq!(oracle, data);
    }

    #[test]
    fn reads_what_the_oracle_writes(data in data(), step in 1..100_000usize) {
        let mut encoder = snap::write::FrameEncoder::new(Vec::new());
        encoder.write_all(&data).unwrap();
        prop_assert_eq!(received(&encoder.into_inner().unwrap(), step).unwrap(), data);
    }

    #[test]
    fn damage_is_an_error_or_harmless(data in data(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let mut bytes = sent(&[&data]);
        prop_assume!(!bytes.is_empty());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(plain) = received(&bytes, 10_000) {
            prop_assert!(plain == data || plain.len() < data.len());
        }
    }

    #[test]
    fn garbage_is_harmless(bytes in prop::collection::vec(any::<u8>(), 0..4_000)) {
        let _ = received(&bytes, 100);
        let _ = received(&[&IDENTIFIER[..], &bytes].concat(), 100);
    }
}
