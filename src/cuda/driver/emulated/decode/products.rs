//! What instructions do to the registers of matrix products of warpgroups.

use std::collections::HashMap;

use crate::cuda::driver::emulated::asynchronous::Left;
use crate::cuda::driver::emulated::function::{Function, ProductTouch, Products};
use crate::cuda::driver::emulated::instr::Op;
use crate::cuda::driver::emulated::operands::Operands;
use crate::cuda::driver::emulated::registers::{Register, Word};

/// Factors in registers and accumulators of a product.
fn registers(op: &Op) -> Option<(Vec<Word>, &[Word])> {
    let Op::Wgmma(wgmma) = op else { return None };
    let factors = match wgmma.a {
        Left::Registers(registers) => registers.to_vec(),
        Left::Shared(_) => Vec::new(),
    };
    Some((factors, &wgmma.d))
}

/// Those of a function; `names` has the registers that the text declares.
pub(super) fn products(function: &Function, names: &HashMap<Register, &str>) -> Products {
    let mut slots: HashMap<Word, u16> = HashMap::new();
    let mut found = Products::default();
    for (factors, sums) in function.code.iter().filter_map(|instr| registers(&instr.op)) {
        for word in factors.iter().chain(sums) {
            slots.entry(*word).or_insert_with(|| {
                let name = names.get(&Register::Word(*word)).copied().unwrap_or_default();
                found.names.push(name.to_owned());
                found.names.len() as u16 - 1
            });
        }
    }
    if slots.is_empty() {
        return found;
    }
    let slot = |register: &Register| match register {
        Register::Word(word) => slots.get(word).copied(),
        _ => None,
    };
    let touches = function.code.iter().map(|instr| {
        let (reads, writes): (Vec<u16>, Vec<u16>) = match registers(&instr.op) {
            Some((factors, sums)) => {
                let of = |words: &[Word]| words.iter().filter_map(|word| slots.get(word).copied()).collect();
                (of(&factors), of(sums))
            }
            None => {
                let operands = Operands::of(&instr.op);
                let read = operands.reads.iter().chain(&operands.carries).chain(&operands.offers);
                (read.filter_map(slot).collect(), operands.writes.iter().filter_map(slot).collect())
            }
        };
        let any = !reads.is_empty() || !writes.is_empty();
        any.then(|| Box::new(ProductTouch { reads, writes }))
    });
    found.touches = touches.collect();
    found
}
