//! The golden vectors of this repository ([`g2d::verify::golden`]) on the emulated device.

use std::path::{Path, PathBuf};

use g2d::base::Rng;
use g2d::cuda::driver::emulated::instr::Op;
use g2d::cuda::driver::emulated::registers::Registers;
use g2d::cuda::driver::emulated::{Emulated, decode, scalar};
use g2d::cuda::ptx;
use g2d::verify::golden::{Group, parse};

/// The texts of all golden files, with their paths below `golden`: what this repository computed lies there, what a device
/// gave in a folder of its name.
pub fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulated/golden");
    let text = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.strip_prefix(&root).expect("it lies there").display().to_string(), text)
    };
    let mut files: Vec<_> = crate::coverage::files(&root, ".txt").into_iter().map(text).collect();
    files.sort();
    files
}

/// All groups of all files, with the name of the file.
pub fn groups() -> Vec<(String, Group)> {
    let parsed = files().into_iter().flat_map(|(name, text)| {
        let groups = parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        groups.into_iter().map(move |group| (name.clone(), group))
    });
    parsed.collect()
}

#[test]
fn every_form_gives_its_golden_results() {
    let device = Emulated::default();
    let mut wrong = Vec::new();
    for (file, group) in groups() {
        let place = format!("{file}:{}: {}", group.line, group.statements);
        match group.run(&device) {
            Err(error) => wrong.push(format!("{place}: {error}")),
            Ok(results) => wrong.extend(group.differences(&results).iter().map(|what| format!("{place}: {what}"))),
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong[..wrong.len().min(60)].join("\n"));
}

#[test]
fn wrong_results_are_found() {
    let text = "origin: a test\n\nadd.u32 d, a, b | d:b32 | a:b32 b:b32\n1 2 -> 3\n1 2 -> 4\n";
    let groups = parse(text).expect("a golden file");
    let results = groups[0].run(&Emulated::default()).expect("it runs");
    assert_eq!(groups[0].differences(&results).len(), 1);
    assert_eq!(groups[0].differences(&[vec![3]]), [""; 0], "only what was run is compared");
}

#[test]
fn files_that_are_no_golden_vectors_are_refused() {
    for text in
        ["", "add.u32 d, a, b | d:b32 | a:b32 b:b32\n1 2 -> 3", "origin: x\n\nadd.u32 d, a, b | d:b32 | a:b32 b:b32\n"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    for case in ["1 2 3 -> 3", "1 2", "1 g -> 3", "1 2 -> 3 4"] {
        let text = format!("origin: x\n\nadd.u32 d, a, b | d:b32 | a:b32 b:b32\n{case}\n");
        assert!(parse(&text).is_err(), "{case}");
    }
}

/// Whatever the operation, lanes that do not take part keep their values, and those that do get what they would get if
/// all did.
#[test]
fn operations_touch_the_lanes_of_their_mask_only() {
    let mut rng = Rng::new(1, 0, 0);
    for (file, group) in groups() {
        let module = ptx::parse(&group.ptx()).expect("text");
        let function = &decode::functions(&module, &|_| None).expect("decodes")[0];
        for instr in &function.code {
            let Op::Scalar(op) = &instr.op else { continue };
            let mut before = Registers::new(function.registers);
            before.words.iter_mut().flatten().for_each(|word| *word = rng.next_u32());
            let wide = |rng: &mut Rng| u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32());
            before.wides.iter_mut().flatten().for_each(|value| *value = wide(&mut rng));
            before.predicates.iter_mut().for_each(|predicate| *predicate = rng.next_u32());
            let (mask, mut all, mut some) = (rng.next_u32(), before.clone(), before.clone());
            scalar::execute(op, &mut all, u32::MAX);
            scalar::execute(op, &mut some, mask);
            for lane in 0..32 {
                let expected = if mask >> lane & 1 == 1 { &all } else { &before };
                let same = some.words.iter().zip(&expected.words).all(|(a, b)| a[lane] == b[lane])
                    && some.wides.iter().zip(&expected.wides).all(|(a, b)| a[lane] == b[lane])
                    && some.predicates.iter().zip(&expected.predicates).all(|(a, b)| (a ^ b) >> lane & 1 == 0);
                assert!(same, "{file}:{}: {op:?}, lane {lane} under {mask:#x}", group.line);
            }
        }
    }
}
