//! A kernel of one's own under the checkers: every entry of a PTX file is tried as a kernel of the op defined here, the sum of
//! each row, on random shapes and on two schedules each: against the op's reference, for accesses out of bounds, reads of
//! memory that nobody wrote, and races. No GPU is needed.
//!
//!     cargo run --release --example verify_my_kernel -- examples/row_sum/good.ptx
//!     cargo run --release --example verify_my_kernel -- examples/row_sum/faulty.ptx
//!
//! A second word is the device, cuda-emulated unless told otherwise. Exit code 2 if an entry fails.

use std::error::Error;
use std::process::ExitCode;
use std::sync::OnceLock;

use bytemuck::{Pod, Zeroable};
use g2d::base::{Number, Rng, Spec};
use g2d::kernels::manifest;
use g2d::program::device::{count, exact};
use g2d::program::{Case, DeviceIo, HostIo, KernelCall, Misfit, Operation, Outputs, Size};
use g2d::train::Device;
use g2d::verify::suite::Suite;

/// Entries of the file.
static ENTRIES: OnceLock<Vec<&'static str>> = OnceLock::new();

/// x [.., columns] → y [..], the sum of each row: what the kernels are to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct RowSum;

/// Parameters that every entry has to take.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    x: u64,
    y: u64,
    columns: u32,
    rows: u32,
}

impl Operation for RowSum {
    const VARIANTS: usize = 1;
    // More columns than a block has threads.
    const LARGE: &'static [(usize, Size)] = &[(0, Size { batch: 2, side: 3, channels: 500, extra: 1 })];

    fn name(&self) -> &'static str {
        "row_sum"
    }

    fn infer(&self, inputs: &[Spec]) -> Result<Outputs, Misfit> {
        let [x] = Misfit::inputs(inputs)?;
        let &[rows, columns] = x.shape.dims() else { return Err(Misfit::new("x has no rows and columns")) };
        Misfit::unless(x.is_real() && columns > 0, || format!("{x:?} is not of real numbers"))?;
        Ok(Outputs::new([Spec::exact([rows])]))
    }

    fn reference<N: Number>(&self, io: &mut HostIo<'_, N>) {
        let [_, columns] = io.dims(0);
        let x = io.numbers(0);
        io.take(0).iter_mut().zip(x.chunks(columns)).for_each(|(y, row)| *y = row.iter().copied().sum());
    }

    fn cuda(&self) -> &'static [&'static str] {
        ENTRIES.get().map_or(&[], Vec::as_slice)
    }

    fn run_cuda(&self, entry: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
        let [rows, columns] = io.dims(0);
        let (rows, columns) = (count("rows", rows)?, count("columns", columns)?);
        let parameters = Parameters { x: exact("x", io.input(0))?, y: io.output(0).address, columns, rows };
        io.launch(KernelCall::linear(entry, rows, 128, &parameters)); // a block to a row
        Ok(())
    }

    fn case(_variant: usize, size: &Size, rng: &mut Rng) -> Case<Self> {
        Case::new(Self).normal(Spec::activation([size.batch * size.side, size.channels]), 1.0, rng)
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let file = words.first().ok_or("give a PTX file, such as examples/row_sum/good.ptx")?;
    let device: Device = words.get(1).map_or(Ok(Device::CudaEmulated(0)), |word| word.parse())?;
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let entries = manifest::entries(&text)?.into_iter().map(|entry| &*entry.symbol.leak());
    ENTRIES.get_or_init(|| entries.collect());

    let mut suite = Suite::new(device);
    suite.library.replace(file, text)?;
    let report = suite.foreign::<RowSum>()?;
    for (kernel, line) in &report.kernels {
        match &line.failure {
            None => println!("{kernel}: {} cases passed, {:.2} of the tolerance used", line.passed, line.used),
            Some(what) => println!("{kernel}: FAILED: {what}"),
        }
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
