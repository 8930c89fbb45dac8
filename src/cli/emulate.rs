//! `g2d emulate`: runs a kernel of one's own on the emulated device, under its checkers.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::base::Rng;
use crate::cuda::driver::Launch;
use crate::cuda::driver::emulated::trial::{Argument, Outcome, Trial};
use crate::cuda::driver::emulated::{Checks, Class, Completion};
use crate::error::Error;

/// Runs one kernel of a PTX file without a GPU and reports races, stray accesses and missing waits.
#[derive(Args)]
#[command(after_help = "Arguments, one --arg per parameter of the kernel, in order:
  f32:1.5           a number; types: f16 bf16 f32 f64 u8 s32 u32 s64 u64
  f32[1024]         a buffer that nobody wrote yet
  f32[1024]=0       a buffer of one number
  u32[1024]=range   0, 1, 2, …
  f32[1024]=normal  random numbers
  u8=@weights.bin   a buffer with the bytes of a file
  {f32[64],u32:64}  a struct passed by value, with its fields as C lays them out, arrays written out; in quotes, as
                    shells take braces for themselves; names of files in it have no comma and no brace

The kernels of this project take one struct each; kernels/NAME.cu and the head of ptx/hand/NAME.ptx say what is in it.

Examples:
  g2d emulate scale.ptx --kernel scale --grid 8 --block 128 --arg f32[1024]=range --arg f32:2 --arg u32:1024
  g2d emulate gemm.ptx --kernel gemm --grid 2,2 --block 256 --shared 65536 --seeds 16 --arg bf16[4096]=normal
  g2d emulate ptx/sm_80/accumulate.ptx --kernel accumulate_scale_f32_eights_sm80 --grid 2 --block 256 \\
    --arg '{f32[4096]=range, f32[4096], f32:0.5, u32:4096}'")]
pub struct Emulate {
    /// The PTX text.
    file: PathBuf,
    /// Name of the kernel.
    #[arg(long)]
    kernel: String,
    /// Blocks: x, or x,y or x,y,z.
    #[arg(long, default_value = "1")]
    grid: String,
    /// Threads of a block: x, or x,y or x,y,z.
    #[arg(long, default_value = "32")]
    block: String,
    /// Bytes of dynamic shared memory.
    #[arg(long, default_value_t = 0)]
    shared: u32,
    /// A parameter (see below).
    #[arg(long = "arg", value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// Run with so many orders of warps and blocks.
    #[arg(long, default_value_t = 4, value_parser = super::from_one::<u64>)]
    seeds: u64,
    /// Run with this seed only, to replay a report.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// When asynchronous copies take effect: late (at the wait), early (at once) or random; by the seed if not given.
    #[arg(long)]
    completion: Option<Completion>,
    /// Let lanes of a warp see each other's accesses without bar.warp.sync.
    #[arg(long)]
    lockstep: bool,
    /// Sum in matrix instructions as Hopper's tensor cores do, bit for bit, instead of rounding in order; slower.
    #[arg(long)]
    exact_sums: bool,
    /// Leave out these checkers. Without deadlock, threads may spin until --limit; where nothing can go on the launch still
    /// ends.
    #[arg(long, value_name = "CHECKER", value_delimiter = ',',
        value_parser = clap::builder::PossibleValuesParser::new(Checks::names()))]
    off: Vec<String>,
    /// Give a launch up after so many warp instructions.
    #[arg(long, default_value_t = 1_000_000_000, value_parser = super::from_one::<u64>)]
    limit: u64,
}

impl Emulate {
    /// Runs it.
    pub fn run(&self) -> Result<(), Error> {
        let ptx = String::from_utf8_lossy(&read(&self.file, MOST_BYTES)?).into_owned();
        let mut left = MOST_BYTES;
        let mut kinds = Vec::new();
        let parsed = self.arguments.iter().map(|text| argument(text, &mut left, &mut kinds));
        let arguments = parsed.collect::<Result<Vec<_>, _>>()?;
        let launch = Launch { grid: extents(&self.grid)?, block: extents(&self.block)?, shared: self.shared };
        let seeds = self.seed.map_or(0..self.seeds, |seed| seed..seed.saturating_add(1));
        let file = self.file.display().to_string();
        let checks =
            Checks::without(self.off.iter().map(String::as_str)).map_err(|error| Error::Usage(error.to_string()))?;
        let checks = Checks { lockstep: self.lockstep, ..checks };
        let trial = Trial {
            file: &file,
            ptx: &ptx,
            kernel: &self.kernel,
            launch,
            arguments,
            checks,
            seeds,
            completion: self.completion,
            limit: Some(self.limit),
            exact_sums: self.exact_sums,
        };
        let outcome = trial.run().map_err(|error| Error::Usage(error.to_string()))?;
        print!("{}", text(&outcome, &kinds));
        Ok(())
    }
}

/// What the kernel did, and the beginning of every buffer; `kinds` are the types of their numbers.
fn text(outcome: &Outcome, kinds: &[Kind]) -> String {
    let counters = &outcome.counters;
    let mut text = format!("no fault; {} warp instructions\n", counters.total_instructions());
    for class in Class::ALL.into_iter().filter(|&class| counters.instructions(class) > 0) {
        text += &format!("  {:15} {}\n", format!("{class:?}").to_lowercase(), counters.instructions(class));
    }
    text += &format!(
        "global memory: {} bytes asked for in {} sectors, {} bytes touched; shared memory: {} conflicts\n",
        counters.global_bytes, counters.global_sectors, counters.global_unique_bytes, counters.shared_conflicts
    );
    if counters.bulk_bytes > 0 {
        text += &format!("bulk copies: {} bytes, {} of the sectors\n", counters.bulk_bytes, counters.bulk_sectors);
    }
    if counters.tensor_flops > 0 {
        text += &format!("matrices: {} floating-point operations\n", counters.tensor_flops);
    }
    for ((name, kind), bytes) in outcome.names.iter().zip(kinds).zip(&outcome.buffers) {
        let numbers = bytes.chunks_exact(kind.bytes()).take(8).map(|bytes| kind.show(bytes));
        let more = if bytes.len() > 8 * kind.bytes() { " …" } else { "" };
        text += &format!("{name}: {}{more}\n", numbers.collect::<Vec<_>>().join(" "));
    }
    if let Some(difference) = outcome.difference {
        let (name, element) = (&outcome.names[difference.buffer], difference.byte / kinds[difference.buffer].bytes());
        text += &format!("seed {} gives another result: {name} differs first in element {element}\n", difference.seed);
    }
    text
}

/// `x`, `x,y` or `x,y,z`.
fn extents(text: &str) -> Result<[u32; 3], Error> {
    let wrong = || Error::Usage(format!("`{text}` is not one to three positive numbers such as 8,2"));
    let numbers = text.split(',').map(|number| number.trim().parse().ok().filter(|&number: &u32| number > 0));
    let numbers = numbers.collect::<Option<Vec<u32>>>().filter(|numbers| numbers.len() <= 3).ok_or_else(wrong)?;
    Ok(std::array::from_fn(|at| numbers.get(at).copied().unwrap_or(1)))
}

/// Type of the numbers of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F16,
    Bf16,
    F32,
    F64,
    U8,
    S32,
    U32,
    S64,
    U64,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "f32" => Self::F32,
            "f64" => Self::F64,
            "u8" => Self::U8,
            "s32" => Self::S32,
            "u32" => Self::U32,
            "s64" => Self::S64,
            "u64" => Self::U64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::S32 | Self::U32 => 4,
            Self::F64 | Self::S64 | Self::U64 => 8,
        }
    }

    /// A written number, if it is one of this type.
    fn number(self, text: &str) -> Option<Vec<u8>> {
        Some(match self {
            Self::U8 => text.parse::<u8>().ok()?.to_le_bytes().to_vec(),
            Self::S32 => text.parse::<i32>().ok()?.to_le_bytes().to_vec(),
            Self::U32 => text.parse::<u32>().ok()?.to_le_bytes().to_vec(),
            Self::S64 => text.parse::<i64>().ok()?.to_le_bytes().to_vec(),
            Self::U64 => text.parse::<u64>().ok()?.to_le_bytes().to_vec(),
            _ => self.nearest(text.parse().ok()?),
        })
    }

    /// The number of this type nearest to a value.
    fn nearest(self, value: f64) -> Vec<u8> {
        match self {
            Self::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
            Self::Bf16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
            Self::F32 => (value as f32).to_le_bytes().to_vec(),
            Self::F64 => value.to_le_bytes().to_vec(),
            Self::U8 => vec![value as u8],
            Self::S32 => (value as i32).to_le_bytes().to_vec(),
            Self::U32 => (value as u32).to_le_bytes().to_vec(),
            Self::S64 => (value as i64).to_le_bytes().to_vec(),
            Self::U64 => (value as u64).to_le_bytes().to_vec(),
        }
    }

    /// A stored number as text.
    fn show(self, bytes: &[u8]) -> String {
        let bits = bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
        match self {
            Self::F16 => half::f16::from_bits(bits as u16).to_string(),
            Self::Bf16 => half::bf16::from_bits(bits as u16).to_string(),
            Self::F32 => f32::from_bits(bits as u32).to_string(),
            Self::F64 => f64::from_bits(bits).to_string(),
            Self::U8 | Self::U32 | Self::U64 => bits.to_string(),
            Self::S32 => (bits as u32).cast_signed().to_string(),
            Self::S64 => bits.cast_signed().to_string(),
        }
    }
}

/// Most bytes of all buffers together: a run holds each of them several times.
const MOST_BYTES: u64 = 1 << 30;

/// The bytes of a file, at most so many: a device has no end, and a regular file may grow while it is read.
fn read(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    // Opening a pipe waits for a writer, so what it is comes first.
    if !std::fs::metadata(path).map_err(Error::io(path))?.is_file() {
        return Err(Error::Usage(format!("{} is not a regular file", path.display())));
    }
    let file = std::fs::File::open(path).map_err(Error::io(path))?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path))?;
    if bytes.len() as u64 > most {
        return Err(Error::Usage(format!("{} has more than the {most} bytes that are left for it", path.display())));
    }
    Ok(bytes)
}

/// Takes the bytes of a buffer out of those that are left.
fn take(text: &str, bytes: u64, left: &mut u64) -> Result<(), Error> {
    *left = left.checked_sub(bytes).ok_or_else(|| {
        Error::Usage(format!("with `{text}` the buffers hold more than {MOST_BYTES} bytes; make them smaller"))
    })?;
    Ok(())
}

/// The texts between the commas of a struct's fields; commas within braces part the fields of inner structs.
fn fields(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let parts = text.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.map(str::trim).collect()
}

/// `TYPE:NUMBER`, `TYPE[COUNT]`, `TYPE[COUNT]=FILL`, `TYPE=@FILE`, if its buffer fits into the bytes that are left, or
/// `{FIELD, …}` of such. Adds the types of its buffers to `kinds`.
fn argument(text: &str, left: &mut u64, kinds: &mut Vec<Kind>) -> Result<Argument, Error> {
    let examples = "f32:1.5, f32[1024]=normal, u8=@FILE or {f32[8], u32:8}";
    let wrong = || Error::Usage(format!("`{text}` is not an argument such as {examples}"));
    if let Some(inside) = text.strip_prefix('{') {
        let inside = inside.strip_suffix('}').ok_or_else(wrong)?;
        let fields = fields(inside).into_iter().map(|field| argument(field, left, kinds));
        return fields.collect::<Result<_, _>>().map(Argument::Struct);
    }
    let end = text.find([':', '[', '=']).ok_or_else(wrong)?;
    let kind = Kind::parse(&text[..end]).ok_or_else(wrong)?;
    let rest = &text[end..];
    if let Some(number) = rest.strip_prefix(':') {
        return Ok(Argument::Value(kind.number(number).ok_or_else(wrong)?));
    }
    kinds.push(kind);
    if let Some(path) = rest.strip_prefix("=@") {
        let bytes = read(Path::new(path), *left)?;
        take(text, bytes.len() as u64, left)?;
        return Ok(Argument::Buffer(bytes));
    }
    let (count, fill) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(wrong)?;
    let count: usize = count.parse().map_err(|_| wrong())?;
    let bytes = count.saturating_mul(kind.bytes());
    take(text, bytes as u64, left)?;
    Ok(match fill.strip_prefix('=') {
        None if fill.is_empty() => Argument::Uninitialized(bytes),
        None => return Err(wrong()),
        Some("range") => Argument::Buffer((0..count).flat_map(|at| kind.nearest(at as f64)).collect()),
        Some("normal") => {
            let mut rng = Rng::new(0, 0, 0);
            Argument::Buffer((0..count).flat_map(|_| kind.nearest(rng.normal())).collect())
        }
        Some(number) => Argument::Buffer(kind.number(number).ok_or_else(wrong)?.repeat(count)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let mut kinds = Vec::new();
        let mut read = |text: &str| argument(text, &mut 100, &mut kinds).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read("f32:1.5"), Argument::Value(1.5f32.to_le_bytes().to_vec()));
        assert_eq!(read("bf16:-2"), Argument::Value(vec![0, 0xc0]));
        assert_eq!(read("u64:18446744073709551615"), Argument::Value(vec![255; 8]));
        assert_eq!(read("f64[3]"), Argument::Uninitialized(24));
        assert_eq!(read("s32[2]=-1"), Argument::Buffer(vec![255; 8]));
        assert_eq!(read("u8[3]=range"), Argument::Buffer(vec![0, 1, 2]));
        assert!(matches!(read("f16[5]=normal"), Argument::Buffer(bytes) if bytes.len() == 10));
        let inner = Argument::Struct(vec![Argument::Value(vec![1]), Argument::Uninitialized(4)]);
        assert_eq!(read("{u8:3, {u8:1,bf16[2]} }"), Argument::Struct(vec![Argument::Value(vec![3]), inner]));
        assert_eq!(kinds, [Kind::F64, Kind::S32, Kind::U8, Kind::F16, Kind::Bf16]);
    }

    #[test]
    fn buffers_have_a_limit_together() {
        let mut left = MOST_BYTES;
        assert!(argument("u8[1000]=0", &mut left, &mut Vec::new()).is_ok() && left == MOST_BYTES - 1000);
        for text in ["u8[4000000000]=0", "f32[268435400]", "u8[1073741824]=range", "u64[18446744073709551615]"] {
            let error = argument(text, &mut left, &mut Vec::new()).expect_err(text).to_string();
            assert!(error.contains("more than 1073741824 bytes"), "{error}");
        }
    }

    #[test]
    fn files_are_read_up_to_a_bound() {
        let path = std::env::temp_dir().join(format!("g2d-emulate-{}", std::process::id()));
        std::fs::write(&path, [7; 10]).expect("the folder of temporary files can be written");
        let text = format!("u8=@{}", path.display());
        let argument = |text: &str, mut left: u64| argument(text, &mut left, &mut Vec::new());
        assert_eq!(argument(&text, 10).expect("10 bytes"), Argument::Buffer(vec![7; 10]));
        let error = argument(&text, 9).expect_err("too long").to_string();
        assert!(error.contains("more than the 9 bytes"), "{error}");
        std::fs::remove_file(&path).expect("it is there");
        let error = argument("u8=@.", 100).expect_err("a folder").to_string();
        assert_eq!(error, ". is not a regular file");
        #[cfg(unix)]
        {
            let error = argument("u8=@/dev/zero", 100).expect_err("no end").to_string();
            assert_eq!(error, "/dev/zero is not a regular file");
        }
    }

    #[test]
    fn broken_arguments_are_refused() {
        let texts = ["", "f32", "f33:1", "f32:x", "u8:256", "u32:-1", "f32[2", "f32[x]", "f32[2]x", "f32[2]=y", "u8=@"];
        let structs = ["{", "{}", "{u8:1", "u8:1}", "{u8:1,}", "{u8:1}}", "{u8:1, {u8:2}", "{u8:1} "];
        for text in texts.into_iter().chain(structs) {
            assert!(argument(text, &mut 100, &mut Vec::new()).is_err(), "{text}");
        }
        for text in ["", "0", "1,2,3,4", "a", "-1"] {
            assert!(extents(text).is_err(), "{text}");
        }
        assert_eq!(extents("8,2").expect("two extents"), [8, 2, 1]);
    }
}
