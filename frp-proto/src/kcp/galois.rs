//! GF(2^8) with polynomial 0x11d, and the parity rows of the code (transports.md §7.4).

pub(super) const DATA: usize = 10;
pub(super) const PARITY: usize = 3;

/// The last three rows of the encoding matrix; those before are the identity.
pub(super) const ROWS: [[u8; DATA]; PARITY] = [
    [0x81, 0x96, 0xaf, 0xb8, 0xd2, 0xc4, 0xfe, 0xe8, 0x03, 0x02],
    [0x96, 0x81, 0xb8, 0xaf, 0xc4, 0xd2, 0xe8, 0xfe, 0x02, 0x03],
    [0xbf, 0xd6, 0x62, 0x0a, 0x06, 0x6f, 0xdf, 0xb7, 0x05, 0x04],
];

/// Products by carry-less multiplication; slow, for tables.
const fn multiply_slowly(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 != 0 { 0x1d } else { 0 };
        b >>= 1;
    }
    product
}

/// All products.
static PRODUCTS: [[u8; 256]; 256] = {
    let mut products = [[0; 256]; 256];
    let mut a = 0;
    while a < 256 {
        let mut b = 0;
        while b < 256 {
            products[a][b] = multiply_slowly(a as u8, b as u8);
            b += 1;
        }
        a += 1;
    }
    products
};

pub(super) fn multiply(a: u8, b: u8) -> u8 {
    PRODUCTS[usize::from(a)][usize::from(b)]
}

/// The inverse of anything but 0.
pub(super) fn invert(a: u8) -> u8 {
    (1..=255).find(|b| multiply(a, *b) == 1).unwrap_or(0)
}

/// Adds `factor` times `data` to `sum`, which is as long at least.
pub(super) fn add_product(sum: &mut [u8], data: &[u8], factor: u8) {
    let products = &PRODUCTS[usize::from(factor)];
    for (sum, byte) in sum.iter_mut().zip(data) {
        *sum ^= products[usize::from(*byte)];
    }
}
