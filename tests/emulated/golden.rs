//! Golden vectors: one small kernel per form, inputs and results in text files, so that results of a GPU can be added.
//!
//! A file is a line `origin: …` and groups, separated by empty lines. The first line of a group is
//! `STATEMENTS | OUTPUTS | INPUTS` or `STATEMENTS | OUTPUTS | INPUTS | within N`: PTX over registers of these names,
//! each with its type (`d:b32`), and how far a result may be off, counted in bit patterns. Each line after that is a
//! case: the inputs in hexadecimal, `->`, the results; `nan` stands for any NaN of 64 bits.

use std::path::{Path, PathBuf};

use g2d::base::Rng;
use g2d::cuda::driver::emulated::instr::Op;
use g2d::cuda::driver::emulated::registers::Registers;
use g2d::cuda::driver::emulated::{Emulated, decode, scalar};
use g2d::cuda::driver::{Driver, DriverError, Launch, Stream};
use g2d::cuda::ptx;

/// A form with its cases.
pub struct Group {
    pub line: usize,
    pub statements: String,
    pub outputs: Vec<(String, String)>,
    pub inputs: Vec<(String, String)>,
    pub within: u64,
    pub cases: Vec<Case>,
}

/// One line of a group.
pub struct Case {
    pub inputs: Vec<u64>,
    /// No value: any NaN.
    pub outputs: Vec<Option<u64>>,
}

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

pub fn parse(text: &str) -> Result<Vec<Group>, String> {
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    if !lines.next().is_some_and(|(_, line)| line.starts_with("origin: ")) {
        return Err("the first line is not `origin: …`".into());
    }
    let (mut groups, mut open): (Vec<Group>, bool) = (Vec::new(), false);
    for (number, line) in lines {
        let wrong = |what: &str| format!("line {number}: {what}: {line}");
        match groups.last_mut() {
            _ if line.is_empty() => open = false,
            Some(group) if open => group.cases.push(case(line, group).ok_or_else(|| wrong("not a case"))?),
            _ => {
                groups.push(group(line, number).ok_or_else(|| wrong("not a form"))?);
                open = true;
            }
        }
    }
    match groups.iter().find(|group| group.cases.is_empty()) {
        Some(group) => Err(format!("line {}: no cases", group.line)),
        None => Ok(groups),
    }
}

fn group(line: &str, number: usize) -> Option<Group> {
    let mut parts = line.split(" | ");
    let registers = |part: &str| {
        let pairs = part.split_whitespace().map(|pair| pair.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())));
        pairs.collect::<Option<Vec<_>>>()
    };
    let (statements, outputs, inputs) =
        (parts.next()?.to_owned(), registers(parts.next()?)?, registers(parts.next()?)?);
    let within = match parts.next() {
        Some(bound) => bound.strip_prefix("within ")?.parse().ok()?,
        None => 0,
    };
    Some(Group { line: number, statements, outputs, inputs, within, cases: Vec::new() })
}

fn case(line: &str, group: &Group) -> Option<Case> {
    let (inputs, outputs) = line.split_once(" -> ")?;
    let hex = |word: &str| u64::from_str_radix(word, 16).ok();
    let inputs = inputs.split_whitespace().map(hex).collect::<Option<Vec<_>>>()?;
    let value = |word: &str| if word == "nan" { Some(None) } else { hex(word).map(Some) };
    let outputs = outputs.split_whitespace().map(value).collect::<Option<Vec<_>>>()?;
    let fits = inputs.len() == group.inputs.len() && outputs.len() == group.outputs.len();
    fits.then_some(Case { inputs, outputs })
}

impl Group {
    /// The kernel: thread i reads the inputs of case i, 8 bytes each, and writes its results.
    pub fn ptx(&self) -> String {
        let mut text = String::from(
            ".version 8.6\n.target sm_90\n.address_size 64\n.visible .entry golden(.param .u64 from, .param .u64 to, \
             .param .u32 count)\n{\n.reg .b32 thread, n;\n.reg .pred beyond;\n.reg .b64 source, target, value;\n",
        );
        for (name, kind) in self.inputs.iter().chain(&self.outputs) {
            text += &format!(".reg .{kind} {name};\n");
        }
        text += &format!(
            "mov.u32 thread, %tid.x;\nld.param.u32 n, [count];\nsetp.ge.u32 beyond, thread, n;\n@beyond exit;\n\
             ld.param.u64 source, [from];\nmad.wide.u32 source, thread, {}, source;\nld.param.u64 target, [to];\n\
             mad.wide.u32 target, thread, {}, target;\n",
            8 * self.inputs.len(),
            8 * self.outputs.len()
        );
        for (at, (name, kind)) in self.inputs.iter().enumerate() {
            text += &format!("ld.global.u64 value, [source+{}];\n", 8 * at);
            text += &match kind.as_str() {
                "pred" => format!("setp.ne.u64 {name}, value, 0;\n"),
                "b64" => format!("mov.b64 {name}, value;\n"),
                narrow => format!("cvt.{}.u64 {name}, value;\n", narrow.replace('b', "u")),
            };
        }
        text += &format!("{};\n", self.statements);
        for (at, (name, kind)) in self.outputs.iter().enumerate() {
            text += &match kind.as_str() {
                "pred" => format!("selp.b64 value, 1, 0, {name};\n"),
                "b64" => format!("mov.b64 value, {name};\n"),
                narrow => format!("cvt.u64.{} value, {name};\n", narrow.replace('b', "u")),
            };
            text += &format!("st.global.u64 [target+{}], value;\n", 8 * at);
        }
        text + "ret;\n}\n"
    }

    /// The results of all cases on a device.
    pub fn run(&self, device: &dyn Driver) -> Result<Vec<Vec<u64>>, DriverError> {
        let bytes: Vec<u8> =
            self.cases.iter().flat_map(|case| &case.inputs).flat_map(|input| input.to_le_bytes()).collect();
        let mut results = vec![0; 8 * self.outputs.len() * self.cases.len()];
        let (from, to) = (device.allocate(bytes.len() as u64)?, device.allocate(results.len() as u64)?);
        device.upload(from, &bytes, Stream::DEFAULT)?;
        let module = device.load("golden", &self.ptx())?;
        let kernel = device.function(module, "golden")?;
        let mut parameters: Vec<u8> = [from, to].iter().flat_map(|at| at.0.to_le_bytes()).collect();
        parameters.extend((self.cases.len() as u32).to_le_bytes());
        device.launch(
            kernel,
            Launch::linear(1, 32 * self.cases.len().div_ceil(32) as u32),
            &parameters,
            Stream::DEFAULT,
        )?;
        device.download(to, &mut results, Stream::DEFAULT)?;
        device.free(from)?;
        device.free(to)?;
        let values = results
            .chunks_exact(8)
            .map(|bytes| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)));
        Ok(values.collect::<Vec<u64>>().chunks(self.outputs.len()).map(<[u64]>::to_vec).collect())
    }

    /// Every case whose results differ.
    pub fn differences(&self, results: &[Vec<u64>]) -> Vec<String> {
        let agrees = |found: u64, expected: Option<u64>| match expected {
            Some(expected) => found.abs_diff(expected) <= self.within,
            None => f64::from_bits(found).is_nan(),
        };
        let wrong = self.cases.iter().zip(results).filter(|(case, found)| {
            found.len() != case.outputs.len()
                || !found.iter().zip(&case.outputs).all(|(&found, &expected)| agrees(found, expected))
        });
        wrong.map(|(case, found)| format!("{:x?} -> {found:x?} instead of {:x?}", case.inputs, case.outputs)).collect()
    }
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
