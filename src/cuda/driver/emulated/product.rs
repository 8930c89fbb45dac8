//! Matrix products of warpgroups: factors from registers and shared memory, the sums of one warp (PTX ISA 9.7.15.5).
//!
//! Products are exact and sums rounded in order of k, as those of `mma.sync` here are, or taken as tensor cores do
//! ([`sums`](super::sums)).

use std::rc::Rc;

use super::asynchronous::{Left, Wgmma};
use super::descriptor::CHUNK;
use super::execute::Context;
use super::instr::MmaType;
use super::matrix::{NAN, brain, half, pair, tf32};
use super::registers::{LANES, Word};
use super::report::Outcome;
use super::scalar::rows::vectorised;
use super::sums::fused;
use super::warpgroup::{Product, ROWS, WARPS};

/// Columns of a product at most.
const COLUMNS: usize = 256;

/// Depth of a product at most.
const DEPTH: usize = 16;

/// Elements of a chunk at most.
const ELEMENTS: usize = 8;

/// What a product of a warpgroup read in shared memory: A, unless it is in registers, by row, and B by depth.
#[derive(Debug)]
pub struct Factors {
    a: [[f32; DEPTH]; WARPS * ROWS],
    b: [[f32; COLUMNS]; DEPTH],
}

impl Context<'_, '_> {
    /// Adds a product to the accumulators of this warp, or writes it there.
    pub(super) fn multiply(&mut self, wgmma: &Wgmma, product: &Product) -> Outcome {
        let factors = match self.block.warpgroups.read_factors(self.warp.index, product.number) {
            Some(factors) => factors,
            None => {
                let factors = Rc::new(self.factors(wgmma, product)?);
                self.block.warpgroups.keep_factors(self.warp.index, product.number, &factors);
                factors
            }
        };
        let first = self.warp.index % WARPS * ROWS;
        let own;
        let a = match wgmma.a {
            Left::Registers(registers) => {
                own = self.left_from_registers(wgmma, &registers);
                &own[..]
            }
            Left::Shared(_) => &factors.a[first..first + ROWS],
        };
        let columns = usize::from(wgmma.columns);
        let mut sums = Box::new([[0.0; COLUMNS]; ROWS]);
        if product.adds {
            self.addends(wgmma, &mut sums);
        }
        let (exact, depth) = (self.grid.options.exact_sums, wgmma.depth());
        if exact {
            for (row, sums) in a.iter().zip(sums.iter_mut()) {
                for (column, sum) in sums.iter_mut().take(columns).enumerate() {
                    *sum = fused(*sum, (0..depth).map(|k| (row[k], factors.b[k][column])));
                }
            }
        } else {
            vectorised(
                #[inline(always)]
                || accumulate(a, &factors.b, &mut sums, columns, depth),
            );
        }
        self.store_sums(wgmma, &sums);
        Ok(())
    }

    /// A from registers: as that of `mma.sync`, rows `l / 4` and 8 further, two 16-bit elements or one of tf32 a register.
    fn left_from_registers(&self, wgmma: &Wgmma, registers: &[Word; 4]) -> [[f32; DEPTH]; ROWS] {
        let mut a = [[0.0; DEPTH]; ROWS];
        let each = if wgmma.kind == MmaType::Tf32 { 1 } else { 2 };
        let sign = if wgmma.negated[0] { -1.0 } else { 1.0 };
        for (number, register) in registers.iter().enumerate() {
            let (high, step) = (number % 2, number / 2);
            for (lane, word) in self.warp.registers.word(*register).iter().enumerate() {
                let values = decoded(wgmma.kind, *word);
                let at = 4 * each * step + each * (lane % 4);
                for (next, value) in values.into_iter().take(each).enumerate() {
                    a[lane / 4 + 8 * high][at + next] = sign * value;
                }
            }
        }
        a
    }

    /// Reads what lies in shared memory, for all warps of the warpgroup at once: when one of them has waited, it may change.
    fn factors(&self, wgmma: &Wgmma, product: &Product) -> Outcome<Factors> {
        let mut factors = Factors { a: [[0.0; DEPTH]; WARPS * ROWS], b: [[0.0; COLUMNS]; DEPTH] };
        let [sign_a, sign_b] = wgmma.negated.map(|negated| if negated { -1.0 } else { 1.0 });
        if let Left::Shared(_) = wgmma.a {
            let (a, transposed) = (&mut factors.a, wgmma.transposed[0]);
            self.each_element(wgmma, product.a, transposed, 0..WARPS * ROWS, |i, k, value| a[i][k] = sign_a * value)?;
        }
        let (b, columns) = (&mut factors.b, wgmma.columns.into());
        self.each_element(wgmma, product.b, wgmma.transposed[1], 0..columns, |j, k, value| b[k][j] = sign_b * value)?;
        Ok(factors)
    }

    /// Visits the elements of a factor in shared memory: line, depth, value.
    #[inline]
    fn each_element(
        &self,
        wgmma: &Wgmma,
        bits: u64,
        transposed: bool,
        lines: std::ops::Range<usize>,
        mut visit: impl FnMut(usize, usize, f32),
    ) -> Outcome {
        let elements = CHUNK * wgmma.depth() / 32;
        self.each_chunk(wgmma, bits, transposed, lines, |i, k, at| {
            let chunk = values(wgmma.kind, &self.block.shared.data()[at..at + CHUNK]);
            for (next, value) in chunk.into_iter().take(elements).enumerate() {
                if transposed { visit(i + next, k, value) } else { visit(i, k + next, value) }
            }
        })
    }

    fn addends(&self, wgmma: &Wgmma, sums: &mut [[f32; COLUMNS]; ROWS]) {
        for (number, register) in wgmma.d.iter().enumerate() {
            for (lane, word) in self.warp.registers.word(*register).iter().enumerate() {
                let (row, column) = place(number, lane);
                sums[row][column] = f32::from_bits(*word);
            }
        }
    }

    fn store_sums(&mut self, wgmma: &Wgmma, sums: &[[f32; COLUMNS]; ROWS]) {
        for (number, register) in wgmma.d.iter().enumerate() {
            let to = self.warp.registers.word_mut(*register);
            for (lane, word) in to.iter_mut().enumerate().take(LANES) {
                let (row, column) = place(number, lane);
                let sum = sums[row][column];
                *word = if sum.is_nan() { NAN } else { sum.to_bits() };
            }
        }
    }
}

/// Row and column of the element of D that a lane has in its register of this number.
fn place(number: usize, lane: usize) -> (usize, usize) {
    let (row, column) = pair(lane, number / 2 % 2);
    (row, 8 * (number / 4) + column + number % 2)
}

/// The one or two elements of a register.
fn decoded(kind: MmaType, word: u32) -> [f32; 2] {
    match kind {
        MmaType::Bf16 => brain(word),
        MmaType::F16 => half(word),
        MmaType::Tf32 => tf32(word),
    }
}

/// The elements of a chunk; of tf32 the first four.
#[inline]
fn values(kind: MmaType, bytes: &[u8]) -> [f32; ELEMENTS] {
    let each = if kind == MmaType::Tf32 { 1 } else { 2 };
    let mut values = [0.0; ELEMENTS];
    for (to, bytes) in values.chunks_exact_mut(each).zip(bytes.chunks_exact(4)) {
        let word = u32::from_le_bytes(super::access::little(bytes, 0));
        to.copy_from_slice(&decoded(kind, word)[..each]);
    }
    values
}

#[inline(always)]
fn accumulate(
    a: &[[f32; DEPTH]],
    b: &[[f32; COLUMNS]; DEPTH],
    sums: &mut [[f32; COLUMNS]; ROWS],
    columns: usize,
    depth: usize,
) {
    for (row, sums) in a.iter().zip(sums.iter_mut()) {
        let sums = &mut sums[..columns];
        for (factor, others) in row.iter().zip(b.iter()).take(depth) {
            for (sum, other) in sums.iter_mut().zip(others) {
                *sum += factor * other;
            }
        }
    }
}
