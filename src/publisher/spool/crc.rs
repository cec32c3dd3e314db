//! Pure. CRC-32C (Castagnoli: polynomial 0x1EDC6F41, bits reflected), as iSCSI, ext4 and RFC 3720 have
//! it. It finds every burst of up to 32 damaged bits, and is forty lines: no dependency is worth it.

/// The polynomial with its bits reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each byte does to a checksum.
static TABLE: [u32; 256] = table();

/// The checksum of bytes that come in pieces.
#[derive(Debug, Clone, Copy)]
pub struct Crc(u32);

impl Crc {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Crc(!0)
    }

    /// Goes on with these.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let step = |crc: u32, byte: &u8| {
            let [low, ..] = crc.to_le_bytes();
            let entry = TABLE.get(usize::from(low ^ byte));
            entry.copied().unwrap_or_default() ^ (crc >> 8)
        };
        Crc(bytes.iter().fold(self.0, step))
    }

    /// The checksum of all of them.
    pub fn sum(self) -> u32 {
        !self.0
    }
}

impl Default for Crc {
    fn default() -> Self {
        Crc::new()
    }
}

#[allow(clippy::indexing_slicing)] // computed by the compiler, which refuses what is out of bounds
#[allow(clippy::cast_possible_truncation)] // `at` is below 256
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < table.len() {
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 1;
            crc >>= 1;
            if carry == 1 {
                crc ^= POLYNOMIAL;
            }
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_are_those_of_rfc_3720() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, expected) in [
            (b"".as_slice(), 0),
            (b"123456789", 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ] {
            assert_eq!(Crc::new().with(bytes).sum(), expected);
            let (head, tail) = bytes.split_at(bytes.len() / 3);
            assert_eq!(Crc::new().with(head).with(tail).sum(), expected);
        }
    }
}
