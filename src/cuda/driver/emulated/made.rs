//! Memory that holds something from the start: made piece by piece, when it is first touched, so that tensors of many GiB
//! take up only what a few blocks of a launch read and write.

use std::fmt;
use std::sync::Arc;

/// Fills the bytes from an offset on, a multiple of 256, by that offset alone.
pub type Make = Arc<dyn Fn(usize, &mut [u8]) + Send + Sync>;

/// Bytes that are made at a time.
pub const PIECE: usize = 256;

/// What a segment holds, and which of it was made.
pub struct Made {
    make: Make,
    /// Bit per piece.
    pieces: Vec<u64>,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").finish_non_exhaustive()
    }
}

impl Made {
    /// Nothing of it is made yet.
    pub fn new(make: Make, bytes: usize) -> Self {
        Self { make, pieces: vec![0; bytes.div_ceil(64 * PIECE)] }
    }

    /// Makes the pieces in which these bytes lie.
    pub fn reach(&mut self, data: &mut [u8], offset: usize, bytes: usize) {
        for piece in offset / PIECE..(offset + bytes).div_ceil(PIECE) {
            let (word, bit) = (piece / 64, 1u64 << (piece % 64));
            if self.pieces[word] & bit == 0 {
                self.pieces[word] |= bit;
                let end = data.len().min((piece + 1) * PIECE);
                (self.make)(piece * PIECE, &mut data[piece * PIECE..end]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Emulated, Options};
    use crate::cuda::driver::{Driver, Launch, Stream};
    use std::sync::Arc;

    /// Each block of 32 threads adds 1 to its 32 bytes.
    const ADD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
        .visible .entry add(.param .u64 at) {
            .reg .b32 %r<5>;
            .reg .b64 %rd<4>;
            ld.param.u64 %rd1, [at];
            mov.u32 %r1, %tid.x;
            mov.u32 %r2, %ctaid.x;
            mad.lo.u32 %r3, %r2, 32, %r1;
            cvt.u64.u32 %rd2, %r3;
            add.u64 %rd3, %rd1, %rd2;
            ld.global.u8 %r4, [%rd3];
            add.u32 %r4, %r4, 1;
            st.global.u8 [%rd3], %r4;
            ret;
        }";

    #[test]
    fn some_blocks_run_on_memory_that_nobody_holds_whole() {
        let device = Emulated::new(Options::default());
        let module = device.load("add.ptx", ADD).unwrap();
        let add = device.function(module, "add").unwrap();
        // Two GiB of bytes that are their places.
        let make =
            |offset: usize, bytes: &mut [u8]| bytes.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = at as u8);
        let at = device.allocate_made(2 << 30, Arc::new(make)).unwrap();
        let last = (1 << 26) - 1;
        device.set_sample(Some(vec![3, last]));
        device.launch(add, Launch::linear(1 << 26, 32), &at.0.to_le_bytes(), Stream::DEFAULT).unwrap();
        let end = 2 << 30;
        assert_eq!(device.written(at), [96..128, end - 32..end]);
        let mut bytes = [0; 40];
        device.download(at.offset(96), &mut bytes, Stream::DEFAULT).unwrap();
        let wanted: Vec<u8> = (97..129).chain(128..136).collect();
        assert_eq!(bytes[..], wanted);
    }
}
