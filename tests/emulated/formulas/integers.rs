//! Integers and bits, in 128 bits.

use super::{Form, low, number};

/// The nearest value that a type holds.
pub fn clamped(value: i128, bits: u32, signed: bool) -> i128 {
    let half = 1i128 << (bits - 1);
    if signed { value.clamp(-half, half - 1) } else { value.clamp(0, 2 * half - 1) }
}

/// The result of a form of this type; its low bits count.
pub fn result(form: &Form<'_>, bits: u32, signed: bool, x: &[u64]) -> Option<u64> {
    let v = |at: usize| number(x[at], bits, signed);
    let count = |at: usize| x[at] & low(32);
    let all = low(bits);
    let product = || {
        let product = v(0).wrapping_mul(v(1));
        match () {
            () if !form.has("hi") => product,
            () if signed => product >> bits,
            () => (product as u128 >> bits) as i128,
        }
    };
    let value = match form.op {
        "add" | "sub" => {
            let value = if form.op == "add" { v(0) + v(1) } else { v(0) - v(1) };
            if form.has("sat") { clamped(value, bits, signed) } else { value }
        }
        "mul" => product(),
        "mad" => {
            let addend = if form.has("wide") { number(x[2], 2 * bits, signed) } else { v(2) };
            product().wrapping_add(addend)
        }
        "sad" => v(2) + (v(0) - v(1)).abs(),
        "div" => v(0).checked_div(v(1))?,
        "rem" => v(0).checked_rem(v(1))?,
        "abs" => v(0).abs(),
        "neg" => -v(0),
        "min" => v(0).min(v(1)),
        "max" => v(0).max(v(1)),
        "and" => v(0) & v(1),
        "or" => v(0) | v(1),
        "xor" => v(0) ^ v(1),
        "not" => !v(0),
        "cnot" => i128::from(x[0] & all == 0),
        "shl" => v(0) << count(1).min(64),
        "shr" => v(0) >> count(1).min(64),
        _ => bit_field(form, bits, signed, x)?.into(),
    };
    Some(value as u64)
}

fn bit_field(form: &Form<'_>, bits: u32, signed: bool, x: &[u64]) -> Option<u64> {
    let (all, last) = (low(bits), bits - 1);
    let bit = |value: u64, at: u32| value >> at & 1;
    let from_bits = |bit: &dyn Fn(u32) -> u64| (0..bits).fold(0, |value, at| value | bit(at) << at);
    let a = x[0] & all;
    Some(match form.op {
        "popc" => a.count_ones().into(),
        "clz" => (0..bits).rev().take_while(|at| bit(a, *at) == 0).count() as u64,
        "brev" => from_bits(&|at| bit(a, last - at)),
        "bfind" => {
            let a = if signed && bit(a, last) == 1 { !a & all } else { a };
            match (0..bits).rev().find(|at| bit(a, *at) == 1) {
                Some(at) if form.has("shiftamt") => (last - at).into(),
                Some(at) => at.into(),
                None => low(32),
            }
        }
        "bfe" => {
            let (first, length) = (x[1] as u32 & 255, x[2] as u32 & 255);
            let sign = if signed && length > 0 { bit(a, last.min(first + length - 1)) } else { 0 };
            from_bits(&|at| if at < length && first + at <= last { bit(a, first + at) } else { sign })
        }
        "bfi" => {
            let (first, length) = (x[2] as u32 & 255, x[3] as u32 & 255);
            from_bits(&|at| if at >= first && at < first + length { bit(a, at - first) } else { bit(x[1], at) })
        }
        "bmsk" => {
            let (a, b) = (x[0] & low(32), x[1] & low(32));
            let (first, width) = if form.has("clamp") { (a, b) } else { (a % 32, b % 32) };
            from_bits(&|at| u64::from(u64::from(at) >= first && u64::from(at) < first + width))
        }
        "shf" => {
            let count = if form.has("wrap") { x[2] & 31 } else { (x[2] & low(32)).min(32) };
            let both = (x[1] & all) << 32 | a;
            if form.has("l") { (u128::from(both) << count >> 32) as u64 } else { both >> count }
        }
        "lop3" => {
            let table = u64::from_str_radix(form.operands.rsplit("0x").next()?, 16).ok()?;
            from_bits(&|at| table >> (bit(a, at) << 2 | bit(x[1], at) << 1 | bit(x[2], at)) & 1)
        }
        "prmt" => permuted(form, (x[1] & all) << 32 | a, x[2])?,
        _ => return None,
    })
}

/// Four of eight bytes, picked by `prmt` (PTX ISA 9.7.9.7).
fn permuted(form: &Form<'_>, bytes: u64, selector: u64) -> Option<u64> {
    let (mode, by) = (*form.words.last()?, selector & 3);
    let chosen = |at: u64| match mode {
        "f4e" => Some(at + by),
        "b4e" => Some((8 + by - at) % 8),
        "rc8" => Some(by),
        "ecl" => Some(at.max(by)),
        "ecr" => Some(at.min(by)),
        "rc16" => Some(at % 2 + 2 * (by & 1)),
        _ => None,
    };
    let byte = |at: u64| match chosen(at) {
        Some(from) => bytes >> (8 * from) & 255,
        None => {
            let by = selector >> (4 * at) & 15;
            let byte = bytes >> (8 * (by & 7)) & 255;
            if by & 8 == 0 { byte } else { 255 * (byte >> 7) }
        }
    };
    Some((0..4).fold(0, |value, at| value | byte(at) << (8 * at)))
}
