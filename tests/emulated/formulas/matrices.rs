//! `ldmatrix` and `mma.sync` by the figures of the manual (9.7.14.5): which element of which matrix each lane holds.

use half::{bf16, f16};

use super::machine::{Machine, WARP, elements};

/// `ldmatrix`: lane 8 i + r names row r of matrix i, of which each lane gets two elements.
pub fn load(machine: &mut Machine, words: &[&str], list: &[&str], first: usize) -> Option<()> {
    for (matrix, register) in elements(list[0]).into_iter().enumerate() {
        let rows = (0..8).map(|row| machine.address(first + 8 * matrix + row, list[1]));
        let rows = rows.collect::<Option<Vec<_>>>()?;
        for lane in 0..WARP {
            let (major, minor) = (lane / 4, 2 * (lane % 4));
            let element = |at: usize| match words.contains(&"trans") {
                true => machine.read(rows[minor + at] + 2 * major as u64, 2),
                false => machine.read(rows[major] + 2 * (minor + at) as u64, 2),
            };
            let value = element(0)? | element(1)? << 16;
            machine.set(first + lane, register, value);
        }
    }
    Some(())
}

/// `mma.sync.aligned.m16n8kK.row.col.D.A.B.C`. The numbers are such that every order of summing gives the same.
pub fn multiply(machine: &mut Machine, words: &[&str], list: &[&str], first: usize) -> Option<()> {
    let k: usize = words[3].strip_prefix("m16n8k")?.parse().ok()?;
    let (sum_kind, kind) = (words[6], words[7]);
    // Numbers of a register, and so columns of A that four lanes hold.
    let each = if kind == "tf32" { 1 } else { 2 };
    let span = 4 * each;
    let (mut a, mut b) = (vec![[0.0; 16]; k], vec![[0.0; 8]; k]);
    let mut c = [[0.0; 8]; 16];
    for lane in 0..WARP {
        let (group, inside) = (lane / 4, lane % 4);
        let held = |machine: &Machine, operand: &str| {
            let names = elements(operand);
            names.into_iter().map(|name| machine.value(first + lane, name)).collect::<Option<Vec<_>>>()
        };
        for (at, word) in held(machine, list[1])?.into_iter().enumerate() {
            for (next, value) in numbers(kind, word).into_iter().enumerate() {
                a[span * (at / 2) + each * inside + next][group + 8 * (at % 2)] = value;
            }
        }
        for (at, word) in held(machine, list[2])?.into_iter().enumerate() {
            for (next, value) in numbers(kind, word).into_iter().enumerate() {
                b[span * at + each * inside + next][group] = value;
            }
        }
        let sums = held(machine, list[3])?.into_iter().flat_map(|word| numbers(sum_kind, word));
        for (at, value) in sums.enumerate() {
            c[group + 8 * (at / 2)][2 * inside + at % 2] = value;
        }
    }
    for lane in 0..WARP {
        let sum = |at: usize| {
            let (row, column) = (lane / 4 + 8 * (at / 2), 2 * (lane % 4) + at % 2);
            c[row][column] + a.iter().zip(&b).map(|(a, b)| a[row] * b[column]).sum::<f64>()
        };
        for (at, register) in elements(list[0]).into_iter().enumerate() {
            let half = |at: usize| u64::from(f16::from_f64(sum(at)).to_bits());
            let value = match sum_kind {
                "f16" => half(2 * at) | half(2 * at + 1) << 16,
                _ => u64::from((sum(at) as f32).to_bits()),
            };
            machine.set(first + lane, register, value);
        }
    }
    Some(())
}

/// The numbers in a register.
fn numbers(kind: &str, word: u64) -> Vec<f64> {
    let halves = [word as u16, (word >> 16) as u16];
    match kind {
        "f16" => halves.map(|bits| f16::from_bits(bits).to_f64()).to_vec(),
        "bf16" => halves.map(|bits| bf16::from_bits(bits).to_f64()).to_vec(),
        // The low 13 bits of a tf32 do not count.
        "tf32" => vec![f32::from_bits(word as u32 & !0x1fff).into()],
        _ => vec![f32::from_bits(word as u32).into()],
    }
}
