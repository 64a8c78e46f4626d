//! Forward error correction: after ten packets come three from which any three lost ones can be had again (transports.md
//! §7.2–7.5).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::galois::{DATA, PARITY, ROWS, add_product, invert, multiply};

/// Sequence number and type.
pub(super) const HEADER: usize = 6;
/// The size of a data packet, counting itself.
const SIZE: usize = 2;
pub(super) const TYPE_DATA: u16 = 0xf1;
pub(super) const TYPE_PARITY: u16 = 0xf2;
/// Bytes that a datagram has at least.
pub(super) const MIN_DATAGRAM: usize = 24;

const GROUP: u32 = (DATA + PARITY) as u32;
/// Sequence numbers start again here, a multiple of the group.
const WRAP: u32 = u32::MAX / GROUP * GROUP;
/// A group that takes longer than this between two packets gets no parity, in milliseconds.
const CONTINUITY: u32 = 500;
/// Packets that a receiver remembers.
const MEMORY: u32 = 3 * GROUP;
/// Longest datagram that takes part.
const MAX_DATAGRAM: usize = 1_500;

/// The type of a datagram that has this layer.
pub(super) fn datagram_type(datagram: &[u8]) -> Option<u16> {
    let kind = u16::from_le_bytes(*datagram.get(4..)?.first_chunk()?);
    matches!(kind, TYPE_DATA | TYPE_PARITY).then_some(kind)
}

/// The sending side.
#[derive(Default)]
pub(super) struct Encoder {
    next: u32,
    /// Data packets of the group so far.
    count: usize,
    /// When the last one was sent.
    last: Option<u32>,
    /// Sums over the group so far, as long as its longest packet.
    parity: [Vec<u8>; PARITY],
}

impl Encoder {
    /// Makes datagrams of a packet: the packet's, and perhaps three of parity.
    pub(super) fn encode(&mut self, packet: &[u8], now: u32, mut send: impl FnMut(Vec<u8>)) {
        let mut datagram = self.header(TYPE_DATA, SIZE + packet.len());
        datagram.extend(((SIZE + packet.len()) as u16).to_le_bytes());
        datagram.extend(packet);
        let shard = &datagram[HEADER..];
        for (sum, row) in self.parity.iter_mut().zip(&ROWS) {
            if sum.len() < shard.len() {
                sum.resize(shard.len(), 0);
            }
            add_product(sum, shard, row[self.count]);
        }
        send(datagram);
        self.count += 1;
        let last = self.last.replace(now);
        if self.count < DATA {
            return;
        }
        self.count = 0;
        let in_time = last.is_some_and(|last| now.wrapping_sub(last) < CONTINUITY);
        for k in 0..PARITY {
            let sum = std::mem::take(&mut self.parity[k]);
            if in_time {
                let mut datagram = self.header(TYPE_PARITY, sum.len());
                datagram.extend(&sum);
                send(datagram);
            } else {
                // So that position in the group and sequence number go on agreeing.
                self.advance();
            }
        }
    }

    fn header(&mut self, kind: u16, len: usize) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(HEADER + len);
        datagram.extend(self.next.to_le_bytes());
        datagram.extend(kind.to_le_bytes());
        self.advance();
        datagram
    }

    fn advance(&mut self) {
        self.next = (self.next + 1) % WRAP;
    }
}

/// The receiving side. It never delays data: what arrives is used at once, by others.
#[derive(Default)]
pub(super) struct Decoder {
    /// Type and shard of what was received, by sequence number.
    seen: BTreeMap<u32, (u16, Bytes)>,
    /// Where groups begin, modulo their size. Upstream's senders move it when they skip parity.
    phase: u32,
}

impl Decoder {
    /// Takes a datagram with its header; returns what can be had again of lost packets.
    pub(super) fn decode(&mut self, datagram: &Bytes) -> Vec<Bytes> {
        let (Some(kind), Some(seq)) = (datagram_type(datagram), datagram.first_chunk()) else {
            return Vec::new();
        };
        let seq = u32::from_le_bytes(*seq);
        if datagram.len() > MAX_DATAGRAM {
            return Vec::new();
        }
        self.remember(seq, kind, datagram.slice(HEADER..));
        let Some(start) = self.group_of(seq, kind) else {
            return Vec::new();
        };
        self.recover(start)
    }

    fn remember(&mut self, seq: u32, kind: u16, shard: Bytes) {
        self.seen.insert(seq, (kind, shard));
        // Numbers that are far apart belong to different times, or to somebody who makes them up.
        self.seen.retain(|other, _| seq.abs_diff(*other) < MEMORY);
        while self.seen.len() > MEMORY as usize {
            self.seen.pop_first();
        }
    }

    fn kind(&self, seq: u32) -> Option<u16> {
        self.seen.get(&seq).map(|(kind, _)| *kind)
    }

    /// The first number of the group that a packet belongs to. Parity next to data shows where groups begin.
    fn group_of(&mut self, seq: u32, kind: u16) -> Option<u32> {
        let (behind, ahead) = (|n| seq.checked_sub(n), |n| seq.checked_add(n));
        let is = |at: Option<u32>, kind| at.is_some_and(|at| self.kind(at) == Some(kind));
        let shown = if kind == TYPE_PARITY {
            let parity = |n| is(behind(n), TYPE_PARITY);
            let first =
                (0..PARITY as u32).find(|n| (1..=*n).all(parity) && is(behind(n + 1), TYPE_DATA));
            let last = (0..PARITY as u32).find(|n| {
                (1..=*n).all(|n| is(ahead(n), TYPE_PARITY)) && is(ahead(n + 1), TYPE_DATA)
            });
            match (first, last) {
                (Some(n), _) => seq.checked_sub(n + DATA as u32),
                (None, Some(n)) => (seq + n + 1).checked_sub(GROUP),
                (None, None) => None,
            }
        } else if is(ahead(1), TYPE_PARITY) {
            (seq + 1).checked_sub(DATA as u32)
        } else {
            None
        };
        if let Some(start) = shown {
            self.phase = start % GROUP;
            return Some(start);
        }
        let position = (seq % GROUP + GROUP - self.phase) % GROUP;
        let fits = (position >= DATA as u32) == (kind == TYPE_PARITY);
        fits.then(|| seq.checked_sub(position)).flatten()
    }

    /// Solves for the lost packets of a group, if enough of it is there and anything is lost.
    fn recover(&mut self, start: u32) -> Vec<Bytes> {
        let shard = |position: usize, kind: u16| {
            let (seen, shard) = self.seen.get(&(start.checked_add(position as u32)?))?;
            (*seen == kind).then_some(shard)
        };
        let lost: Vec<usize> = (0..DATA)
            .filter(|i| shard(*i, TYPE_DATA).is_none())
            .collect();
        let parity: Vec<usize> = (0..PARITY)
            .filter(|k| shard(DATA + k, TYPE_PARITY).is_some())
            .take(lost.len())
            .collect();
        if lost.is_empty() || parity.len() < lost.len() {
            return Vec::new();
        }
        // What the lost packets contribute to each parity.
        let mut sums = Vec::new();
        for k in &parity {
            let Some(shard_k) = shard(DATA + k, TYPE_PARITY) else {
                return Vec::new();
            };
            let mut sum = shard_k.to_vec();
            for i in (0..DATA).filter(|i| !lost.contains(i)) {
                let Some(data) = shard(i, TYPE_DATA) else {
                    return Vec::new();
                };
                if data.len() > sum.len() {
                    // Not of this group.
                    return Vec::new();
                }
                add_product(&mut sum, data, ROWS[*k][i]);
            }
            sums.push(sum);
        }
        if sums.iter().any(|sum| sum.len() != sums[0].len()) {
            return Vec::new();
        }
        let matrix = parity
            .iter()
            .map(|k| lost.iter().map(|i| ROWS[*k][*i]).collect())
            .collect();
        let recovered = solve(matrix, sums);
        let mut packets = Vec::new();
        for (i, shard) in lost.into_iter().zip(recovered) {
            let shard = Bytes::from(shard);
            let size = shard
                .first_chunk()
                .map_or(0, |s| usize::from(u16::from_le_bytes(*s)));
            if (SIZE..=shard.len()).contains(&size) {
                packets.push(shard.slice(SIZE..size));
            }
            // Once is enough.
            self.seen.insert(start + i as u32, (TYPE_DATA, shard));
        }
        packets
    }
}

/// Gauss-Jordan: `matrix` times the result is `sums`. Any square part of the parity rows can be inverted.
fn solve(mut matrix: Vec<Vec<u8>>, mut sums: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let n = matrix.len();
    for column in 0..n {
        if let Some(pivot) = (column..n).find(|row| matrix[*row][column] != 0) {
            matrix.swap(column, pivot);
            sums.swap(column, pivot);
        }
        let factor = invert(matrix[column][column]);
        let scaled: Vec<u8> = matrix[column]
            .iter()
            .map(|v| multiply(*v, factor))
            .collect();
        let mut sum = vec![0; sums[column].len()];
        add_product(&mut sum, &sums[column], factor);
        for row in (0..n).filter(|row| *row != column) {
            let factor = matrix[row][column];
            add_product(&mut matrix[row], &scaled, factor);
            add_product(&mut sums[row], &sum, factor);
        }
        (matrix[column], sums[column]) = (scaled, sum);
    }
    sums
}

/// See [`super::fuzz_fec`].
pub(super) fn fuzz(mut data: &[u8]) {
    let mut decoder = Decoder::default();
    while let Some((len, rest)) = data.split_first() {
        let (packet, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        decoder.decode(&Bytes::copy_from_slice(packet));
        assert!(decoder.seen.len() <= MEMORY as usize);
        data = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hex, unhex};

    /// Datagrams of packets sent at these times.
    fn encode(
        encoder: &mut Encoder,
        packets: &[Vec<u8>],
        times: impl Fn(usize) -> u32,
    ) -> Vec<Bytes> {
        let mut datagrams = Vec::new();
        for (i, packet) in packets.iter().enumerate() {
            encoder.encode(packet, times(i), |d| datagrams.push(Bytes::from(d)));
        }
        datagrams
    }

    fn packets(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| vec![0x10 + i as u8; i % DATA + 1]).collect()
    }

    #[test]
    fn parity_of_the_specification() {
        let datagrams = encode(&mut Encoder::default(), &packets(10), |_| 0);
        assert_eq!(datagrams.len(), 13);
        assert_eq!(hex(&datagrams[1]), "01000000f10004001111");
        for (datagram, expected) in datagrams[10..].iter().zip([
            "0a000000f2008e001ae2e1801ad4fb9e1a32",
            "0b000000f2003d001b8ef7d51bf0ec801b2b",
            "0c000000f200f9001c2314be007808811c64",
        ]) {
            assert_eq!(hex(datagram), expected);
        }
    }

    #[test]
    fn any_three_losses_are_repaired() {
        let sent = packets(10);
        let datagrams = encode(&mut Encoder::default(), &sent, |_| 0);
        for a in 0..13 {
            for b in a..13 {
                for c in b..13 {
                    let mut decoder = Decoder::default();
                    let mut recovered = Vec::new();
                    for (i, datagram) in datagrams.iter().enumerate().rev() {
                        if ![a, b, c].contains(&i) {
                            recovered.extend(decoder.decode(datagram));
                        }
                    }
                    for lost in [a, b, c].into_iter().filter(|i| *i < 10) {
                        assert!(recovered.iter().any(|r| *r == sent[lost]), "{a} {b} {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn slow_groups_have_no_parity_and_numbers_stay_aligned() {
        let mut encoder = Encoder::default();
        let slow = encode(&mut encoder, &packets(10), |i| i as u32 * CONTINUITY);
        assert_eq!(slow.len(), 10);
        let fast = encode(&mut encoder, &packets(10), |_| 100_000);
        assert_eq!(fast.len(), 13);
        assert_eq!(fast[0][..4], 13_u32.to_le_bytes());
    }

    /// A group of frps, whose numbers are out of step: data 10..=19, parity 20..=22.
    const CAPTURED: [&str; 13] = [
        "0a000000f1003d00c7a401f652000004a2170000070000000800000000000000c7a401f651000004ab19000007000000080000000b000000e972104388dd3b7e42ef77",
        "0b000000f1003d00c7a401f6520000048c1b0000080000000900000000000000c7a401f6510000049a1d000008000000090000000b000000398582caa69f091e9b5753",
        "0c000000f1003d00c7a401f652000004611f0000090000000a00000000000000c7a401f65100000473210000090000000a0000000b0000003fbc3d1bc4c162171e2712",
        "0d000000f1003d00c7a401f652000004562300000a0000000b00000000000000c7a401f6510000045b2500000a0000000b0000000b0000001b6975060034ede176da37",
        "0e000000f1003d00c7a401f652000004472700000b0000000c00000000000000c7a401f6510000044a2900000b0000000c0000000b000000e463caf5e892d695eea751",
        "0f000000f1003d00c7a401f652000004222b00000c0000000d00000000000000c7a401f651000004302d00000c0000000d0000000b0000006d79d43a7cc1c29295c129",
        "10000000f1003d00c7a401f6520000040e2f00000d0000000e00000000000000c7a401f651000004193100000d0000000e0000000b0000009890450f278e3402805531",
        "11000000f1003d00c7a401f652000004fa3200000e0000000f00000000000000c7a401f651000004093500000e0000000f0000000b0000001b575301a1b5fede2cbfff",
        "12000000f1001a00c7a401f652000004bf3600000f0000001000000000000000",
        "13000000f1003d00c7a401f652000004eb360000100000001100000000000000c7a401f651000004f33800000f000000110000000b000000c736efdf31d9ed414a58f5",
        "14000000f2005400c7a401f652000004a0390000180000001200000000000000935502f1a200000896ba000037000000220000001600000083707b40e0baabb3e4d7d9",
        "15000000f2007300c7a401f65200000492e50000bb000000130000000000000054f10307f300000c2882000084000000330000001d000000d51739d12a5dd273784a07",
        "16000000f2008600c7a401f652000004bac300003400000014000000000000003baa04ff590000102d4100007b000000440000002c000000aef17b73b416ba37b6408e",
    ];

    #[test]
    fn a_captured_group_that_is_out_of_step_is_repaired() {
        let datagrams = CAPTURED.map(|d| Bytes::from(unhex(d)));
        for lost in 0..8 {
            let mut decoder = Decoder::default();
            let mut recovered = Vec::new();
            for (i, datagram) in datagrams.iter().enumerate() {
                if !(lost..lost + 2).contains(&i) {
                    recovered.extend(decoder.decode(datagram));
                }
            }
            for datagram in &datagrams[lost..lost + 2] {
                assert!(
                    recovered.contains(&datagram.slice(HEADER + SIZE..)),
                    "{lost}"
                );
            }
        }
    }

    #[test]
    fn made_up_numbers_do_not_stop_the_repair() {
        let mut encoder = Encoder::default();
        let mut decoder = Decoder::default();
        for round in 0..3 {
            let mut forged = vec![0xff; 40];
            forged[4..6].copy_from_slice(&TYPE_DATA.to_le_bytes());
            decoder.decode(&forged.into());
            let datagrams = encode(&mut encoder, &packets(10), |_| 0);
            let recovered: Vec<_> = datagrams[1..]
                .iter()
                .flat_map(|d| decoder.decode(d))
                .collect();
            assert_eq!(recovered, [vec![0x10; 1]], "{round}");
        }
    }
}
