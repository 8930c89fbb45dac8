//! Golden vectors: one small kernel per form of an instruction, inputs and results in text files, so that any device is
//! held to what is written down, and that what a device gives can be written down.
//!
//! A file is a line `origin: …` and groups, separated by empty lines. The first line of a group is
//! `STATEMENTS | OUTPUTS | INPUTS` or `STATEMENTS | OUTPUTS | INPUTS | within N`: PTX over registers of these names,
//! each with its type (`d:b32`), and how far a result may be off, counted in bit patterns. Each line after that is a
//! case: the inputs in hexadecimal, `->`, the results; `nan` stands for any NaN of 64 bits.
//!
//! Case i is thread i of one block. The statements may use its number `thread`, the address `source` of its inputs, which
//! lie one after the other in 8 bytes each, and the address `target` of as many bytes for its results. So lanes can work
//! together: 32 cases are a warp.

use crate::cuda::driver::{Driver, DriverError, Launch, Stream};

/// Cases of a group: the threads of one block.
const MOST_CASES: usize = 1024;

/// Why golden vectors cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The text is not a golden file.
    #[error("{0}")]
    Text(String),
    /// The device refuses a group.
    #[error("{0}: {1}")]
    Device(String, DriverError),
}

/// A form with its cases.
pub struct Group {
    /// Line of the file, from 1.
    pub line: usize,
    /// PTX.
    pub statements: String,
    /// Registers of results, with their types.
    pub outputs: Vec<(String, String)>,
    /// Registers of inputs, with their types.
    pub inputs: Vec<(String, String)>,
    /// How far a result may be off.
    pub within: u64,
    /// Its cases, at least one.
    pub cases: Vec<Case>,
}

/// One line of a group.
pub struct Case {
    /// One per register.
    pub inputs: Vec<u64>,
    /// One per register. No value: any NaN.
    pub outputs: Vec<Option<u64>>,
}

/// The groups of a file, or which line is wrong.
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
    match groups.iter().find(|group| group.cases.is_empty() || group.cases.len() > MOST_CASES) {
        Some(group) => Err(format!("line {}: {} cases, not 1 to {MOST_CASES}", group.line, group.cases.len())),
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

/// The text of a golden file with the results that a device gives, and every case that differs from the file.
///
/// # Errors
///
/// A text that is not golden, or a group that the device refuses.
pub fn recorded(text: &str, device: &dyn Driver) -> Result<(String, Vec<String>), GoldenError> {
    let properties = device.properties();
    let (major, minor) = properties.capability;
    let mut out = format!("origin: {} (compute capability {major}.{minor}), as recorded there\n", properties.name);
    let mut differences = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for group in parse(text).map_err(GoldenError::Text)? {
        let place = format!("line {}: {}", group.line, group.statements);
        let results = group.run(device).map_err(|error| GoldenError::Device(place.clone(), error))?;
        out += &format!("\n{}\n", lines[group.line - 1]);
        for (case, results) in group.cases.iter().zip(&results) {
            let inputs = case.inputs.iter().zip(&group.inputs).map(|(value, (_, kind))| word(kind, *value));
            let outputs = results.iter().zip(&group.outputs).zip(&case.outputs);
            let outputs = outputs.map(|((value, (_, kind)), golden)| match golden {
                None if f64::from_bits(*value).is_nan() => "nan".to_owned(),
                _ => word(kind, *value),
            });
            let (inputs, outputs): (Vec<_>, Vec<_>) = (inputs.collect(), outputs.collect());
            out += &format!("{} -> {}\n", inputs.join(" "), outputs.join(" "));
        }
        differences.extend(group.differences(&results).into_iter().map(|what| format!("{place}: {what}")));
    }
    Ok((out, differences))
}

/// A register's value as files hold it: all digits of its type, one of a predicate.
fn word(kind: &str, value: u64) -> String {
    let digits = kind.get(1..).and_then(|bits| bits.parse().ok()).map_or(1, |bits: usize| bits / 4);
    format!("{value:0digits$x}")
}
