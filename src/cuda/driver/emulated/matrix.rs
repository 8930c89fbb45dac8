//! Matrix instructions of a warp: `ldmatrix`, `stmatrix`, `mma.sync` (PTX ISA 9.7.14.5).
//!
//! Products are exact in f32 (8, 11 or 11 bits of precision a factor); sums are taken in f32, k ascending, from the
//! addend on, rounded to nearest. Hardware aligns and truncates instead, so sums agree to K · 2^-24 · Σ|a·b|, and
//! exactly where all partial sums are; unless [`exact_sums`](super::Options::exact_sums) asks for what it does.

use half::f16;

use super::access::{Access, Offsets};
use super::execute::{Context, lanes};
use super::instr::{MatrixMove, Mma, MmaType, Space};
use super::registers::{LANES, Registers, Word};
use super::report::{Check, Finding, Outcome};
use super::scalar::rows::vectorised;
use super::sums::fused;

const ROWS: usize = 16;
const COLUMNS: usize = 8;

/// Bytes of one row of an 8×8 matrix of 16-bit elements.
const ROW_BYTES: usize = 16;

/// The NaN that matrix units give.
pub(super) const NAN: u32 = 0x7fff_ffff;

impl Context<'_, '_> {
    /// Offsets of the rows: lane 8 i + r names row r of matrix i; lanes beyond the last matrix name nothing.
    fn matrix_rows(&mut self, matrices: &MatrixMove, what: &'static str) -> Outcome<(Offsets, u32)> {
        let access = Access::weak(what, ROW_BYTES);
        let mask = u32::MAX >> (LANES - 8 * usize::from(matrices.count));
        let (mut offsets, mut found) = ([0; LANES], 0);
        let addresses = self.addresses(&matrices.address);
        self.by_space(matrices.space, addresses, mask, |this, space, addresses, mask| {
            if space != Space::Shared {
                let lane = mask.trailing_zeros() as usize;
                return Err(Finding::new(Check::Bounds, lane, format!("{what} in {space:?} memory instead of shared")));
            }
            this.check_alignment(space, addresses, mask, access)?;
            (offsets, found) = this.shared_spots(addresses, mask, access)?;
            Ok(())
        })?;
        Ok((offsets, found))
    }

    /// `ldmatrix` (9.7.14.5.15): lane l gets elements 2 (l mod 4) and the next of row l / 4; transposed, element l / 4
    /// of rows 2 (l mod 4) and the next.
    pub(super) fn load_matrix(&mut self, matrices: &MatrixMove) -> Outcome {
        let (offsets, found) = self.matrix_rows(matrices, "ldmatrix")?;
        let warp = &mut *self.warp;
        let actor = warp.actor(false, self.block.serial);
        for lane in lanes(found) {
            self.block.shared.read(&actor, lane, offsets[lane], ROW_BYTES)?;
        }
        let data = self.block.shared.data();
        for (matrix, register) in matrices.registers.iter().take(usize::from(matrices.count)).enumerate() {
            let mut rows = [[0; ROW_BYTES]; 8];
            for (row, bytes) in rows.iter_mut().enumerate().filter(|(row, _)| found >> (8 * matrix + row) & 1 == 1) {
                let at = offsets[8 * matrix + row];
                bytes.copy_from_slice(&data[at..at + ROW_BYTES]);
            }
            let element = |row: usize, column: usize| {
                u32::from(u16::from_le_bytes([rows[row][2 * column], rows[row][2 * column + 1]]))
            };
            for (lane, word) in warp.registers.word_mut(*register).iter_mut().enumerate() {
                let (group, pair) = (lane / 4, 2 * (lane % 4));
                *word = match matrices.transposed {
                    false => element(group, pair) | element(group, pair + 1) << 16,
                    true => element(pair, group) | element(pair + 1, group) << 16,
                };
            }
        }
        Ok(())
    }

    /// `stmatrix` (9.7.14.5.16): the reverse of `ldmatrix`.
    pub(super) fn store_matrix(&mut self, matrices: &MatrixMove) -> Outcome {
        let (offsets, found) = self.matrix_rows(matrices, "stmatrix")?;
        for (matrix, register) in matrices.registers.iter().take(usize::from(matrices.count)).enumerate() {
            let mut rows = [[0u8; ROW_BYTES]; 8];
            for (lane, word) in self.warp.registers.word(*register).iter().enumerate() {
                let (group, pair) = (lane / 4, 2 * (lane % 4));
                for (half, bits) in [*word as u16, (*word >> 16) as u16].into_iter().enumerate() {
                    let (row, column) = if matrices.transposed { (pair + half, group) } else { (group, pair + half) };
                    rows[row][2 * column..2 * column + 2].copy_from_slice(&bits.to_le_bytes());
                }
            }
            for (row, bytes) in rows.iter().enumerate().filter(|(row, _)| found >> (8 * matrix + row) & 1 == 1) {
                self.write_shared(8 * matrix + row, offsets[8 * matrix + row], bytes, false)?;
            }
        }
        Ok(())
    }

    /// `mma.sync` (9.7.14.5.14).
    pub(super) fn mma(&mut self, mma: &Mma) {
        let (registers, exact) = (&mut self.warp.registers, self.grid.options.exact_sums);
        vectorised(
            #[inline(always)]
            || multiply(registers, mma, exact),
        );
        self.grid.counters.tensor_flops += 2 * (ROWS * COLUMNS * usize::from(mma.k)) as u64;
    }
}

#[inline(always)]
fn multiply(registers: &mut Registers, mma: &Mma, exact: bool) {
    let k = usize::from(mma.k);
    let (a, b) = match mma.kind {
        MmaType::Bf16 => operands(registers, mma, k, 8, brain),
        MmaType::F16 => operands(registers, mma, k, 8, half),
        MmaType::Tf32 => operands(registers, mma, k, 4, tf32),
    };
    let mut sum = addend(registers, mma);
    if exact {
        for (sums, row) in sum.iter_mut().zip(&a) {
            for (column, sum) in sums.iter_mut().enumerate() {
                *sum = fused(*sum, (0..k).map(|at| (row[at], b[at][column])));
            }
        }
        return store_sum(registers, mma, &sum);
    }
    for (sums, row) in sum.iter_mut().zip(&a) {
        let mut total = *sums;
        for (factor, column) in row.iter().zip(&b).take(k) {
            for (total, other) in total.iter_mut().zip(column) {
                *total += factor * other;
            }
        }
        *sums = total;
    }
    store_sum(registers, mma, &sum);
}

/// A by rows and B by k. A register of all lanes covers `span` columns of A (rows of B): two a lane for 16-bit
/// operands, one for tf32.
#[inline(always)]
fn operands(
    registers: &Registers,
    mma: &Mma,
    k: usize,
    span: usize,
    decode: impl Fn(u32) -> [f32; 2],
) -> ([[f32; 16]; ROWS], [[f32; COLUMNS]; 16]) {
    let (mut a, mut b) = ([[0.0; 16]; ROWS], [[0.0; COLUMNS]; 16]);
    let each = span / 4;
    for step in 0..k / span {
        for high in 0..2 {
            for (lane, word) in registers.word(mma.a[2 * step + high]).iter().enumerate() {
                let at = span * step + each * (lane % 4);
                a[lane / 4 + 8 * high][at..at + each].copy_from_slice(&decode(*word)[..each]);
            }
        }
        for (lane, word) in registers.word(mma.b[step]).iter().enumerate() {
            let values = decode(*word);
            for (next, value) in values.into_iter().take(each).enumerate() {
                b[span * step + each * (lane % 4) + next][lane / 4] = value;
            }
        }
    }
    (a, b)
}

#[inline(always)]
pub(super) fn brain(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)]
}

#[inline(always)]
pub(super) fn half(word: u32) -> [f32; 2] {
    [f16::from_bits(word as u16).to_f32(), f16::from_bits((word >> 16) as u16).to_f32()]
}

/// The low 13 bits do not count.
#[inline(always)]
pub(super) fn tf32(word: u32) -> [f32; 2] {
    [f32::from_bits(word & 0xffff_e000), 0.0]
}

/// Row and first column of each of C's and D's pairs of elements: registers 0 and 1, then 2 and 3.
#[inline(always)]
pub(super) fn pair(lane: usize, high: usize) -> (usize, usize) {
    (lane / 4 + 8 * high, 2 * (lane % 4))
}

#[inline(always)]
fn addend(registers: &Registers, mma: &Mma) -> [[f32; COLUMNS]; ROWS] {
    let mut sum = [[0.0; COLUMNS]; ROWS];
    let word = |register: Word, lane: usize| registers.word(register)[lane];
    for high in 0..2 {
        for lane in 0..LANES {
            let (row, column) = pair(lane, high);
            let values = match mma.half_sum {
                true => half(word(mma.c[high], lane)),
                false => [word(mma.c[2 * high], lane), word(mma.c[2 * high + 1], lane)].map(f32::from_bits),
            };
            sum[row][column..column + 2].copy_from_slice(&values);
        }
    }
    sum
}

#[inline(always)]
fn store_sum(registers: &mut Registers, mma: &Mma, sum: &[[f32; COLUMNS]; ROWS]) {
    let bits = |value: f32| if value.is_nan() { NAN } else { value.to_bits() };
    let narrow = |value: f32| u32::from(if value.is_nan() { 0x7fff } else { f16::from_f32(value).to_bits() });
    for high in 0..2 {
        for lane in 0..LANES {
            let (row, column) = pair(lane, high);
            let (first, second) = (sum[row][column], sum[row][column + 1]);
            if mma.half_sum {
                registers.word_mut(mma.d[high])[lane] = narrow(first) | narrow(second) << 16;
            } else {
                registers.word_mut(mma.d[2 * high])[lane] = bits(first);
                registers.word_mut(mma.d[2 * high + 1])[lane] = bits(second);
            }
        }
    }
}
