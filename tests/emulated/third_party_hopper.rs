//! Matrix products for Hopper that others wrote (pranjalssh/fast.cu), compiled by tests/third_party/run: TMA, mbarriers, wgmma,
//! in four designs. C [columns, rows] = B A transposed, in bf16.

use std::path::Path;

use g2d::base::Rng;
use g2d::cuda::driver::emulated::{Completion, Emulated, Options};
use g2d::cuda::driver::{
    Address, Driver, DriverError, Launch, Stream, Swizzle, TensorMap, TensorMapSpec, TensorType, Window,
};
use half::bf16;

/// A kernel with its launch: the tile of a block, and how it takes its tensor maps.
struct Kernel {
    name: &'static str,
    launch: Launch,
    rows: usize,
    columns: usize,
    depth: usize,
    tile: [u32; 2],
    /// Whether maps are parameters; otherwise they lie in global memory.
    by_value: bool,
    /// Whether maps have five dimensions, of which two are 1, with a stride of 0.
    five: bool,
}

/// One tile per block, one warpgroup that loads and multiplies in turn; `cuda::barrier`.
fn tiles_in_turn() -> Kernel {
    Kernel {
        name: "matmulKernel2",
        launch: Launch::linear(2, 128),
        rows: 128,
        columns: 64,
        depth: 128,
        tile: [64, 64],
        by_value: false,
        five: false,
    }
}

/// A producer and a consumer warpgroup with a ring of five stages; two products a consumer.
fn producer_and_consumer() -> Kernel {
    Kernel {
        name: "matmulKernel4",
        launch: Launch::linear(1, 256).with_shared(164_000),
        rows: 128,
        columns: 128,
        depth: 448,
        tile: [128, 128],
        by_value: false,
        five: false,
    }
}

/// Two consumers, 128 × 256 tiles, `setmaxnreg`.
fn two_consumers() -> Kernel {
    Kernel {
        name: "matmulKernel5",
        launch: Launch::linear(1, 384).with_shared(148_000),
        rows: 128,
        columns: 256,
        depth: 320,
        tile: [128, 256],
        by_value: false,
        five: false,
    }
}

/// Persistent: 128 blocks go through the tiles in an order that favours the L2 cache.
fn persistent() -> Kernel {
    Kernel {
        name: "matmulKernel6",
        launch: Launch::linear(128, 384).with_shared(148_000),
        rows: 2048,
        columns: 2048,
        depth: 64,
        tile: [128, 256],
        by_value: true,
        five: false,
    }
}

/// The next one of the series, which has lost the fence behind its `mbarrier.init`.
fn without_fence() -> Kernel {
    Kernel { name: "matmulKernel7", five: true, ..persistent() }
}

/// A [lines, depth] matrix in tiles of so many lines and 64 of depth.
fn map(address: Address, lines: usize, depth: usize, tile: u32, five: bool) -> TensorMapSpec {
    let plain = TensorMapSpec {
        dtype: TensorType::Bf16,
        address,
        sizes: vec![depth as u64, lines as u64],
        strides: vec![2 * depth as u64],
        window: Window::Tile(vec![64, tile]),
        steps: vec![1, 1],
        swizzle: Swizzle::B128,
    };
    if !five {
        return plain;
    }
    TensorMapSpec {
        sizes: vec![64, lines as u64, depth as u64 / 64, 1, 1],
        strides: vec![2 * depth as u64, 128, 0, 0],
        window: Window::Tile(vec![64, tile, 1, 1, 1]),
        steps: vec![1; 5],
        ..plain
    }
}

fn whole(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed, 0, 0);
    (0..count).map(|_| rng.below(5) as f32 - 2.0).collect()
}

impl Kernel {
    fn upload(&self, device: &Emulated, values: &[f32], name: &str) -> Result<Address, DriverError> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect();
        let at = device.allocate(bytes.len() as u64)?;
        device.label(at, name);
        device.upload(at, &bytes, Stream::DEFAULT)?;
        Ok(at)
    }

    /// The parameters: three sizes, C, and both maps or where they lie.
    fn parameters(&self, device: &Emulated, c: Address, maps: [TensorMap; 2]) -> Result<Vec<u8>, DriverError> {
        let sizes = [self.rows, self.columns, self.depth].map(|size| size as u32);
        let mut bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
        bytes.resize(16, 0);
        bytes.extend(c.0.to_le_bytes());
        for map in maps {
            let map: Vec<u8> = map.0.iter().flat_map(|word| word.to_le_bytes()).collect();
            if self.by_value {
                // As the toolkit's header aligns them since CUDA 13.
                bytes.resize(bytes.len().next_multiple_of(128), 0);
                bytes.extend(map);
            } else {
                let at = device.allocate(map.len() as u64)?;
                device.upload(at, &map, Stream::DEFAULT)?;
                bytes.extend(at.0.to_le_bytes());
            }
        }
        Ok(bytes)
    }

    fn run(&self, folder: &Path, options: Options) -> Result<Vec<f32>, DriverError> {
        let path = folder.join(self.name).with_extension("ptx");
        let ptx = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = ptx.split_once(".entry ").and_then(|(_, rest)| rest.split_once('(')).expect("an entry").0;
        let device = Emulated::new(options);
        let (a, b) = (whole(1, self.rows * self.depth), whole(2, self.columns * self.depth));
        let (a, b) = (self.upload(&device, &a, "A")?, self.upload(&device, &b, "B")?);
        let bytes = 2 * self.rows * self.columns;
        let c = device.allocate(bytes as u64)?;
        device.label(c, "C");
        let maps = [
            device.tensor_map(&map(a, self.rows, self.depth, self.tile[0], self.five))?,
            device.tensor_map(&map(b, self.columns, self.depth, self.tile[1], self.five))?,
        ];
        let parameters = self.parameters(&device, c, maps)?;
        let module = device.load(self.name, &ptx)?;
        let kernel = device.function(module, name)?;
        device.allow_shared(kernel, self.launch.shared)?;
        device.launch(kernel, self.launch, &parameters, Stream::DEFAULT)?;
        let mut result = vec![0; bytes];
        device.download(c, &mut result, Stream::DEFAULT)?;
        let counters = device.counters();
        println!(
            "{}: {} warp instructions, {:.1} reads of a sector, {} bytes by bulk copies",
            self.name,
            counters.total_instructions(),
            counters.global_rereads(),
            counters.bulk_bytes
        );
        Ok(result.chunks_exact(2).map(|half| bf16::from_le_bytes([half[0], half[1]]).to_f32()).collect())
    }

    fn check(&self, folder: &Path, seeds: u64) {
        let (a, b) = (whole(1, self.rows * self.depth), whole(2, self.columns * self.depth));
        for seed in 0..seeds {
            let options = Options { seed, completion: Completion::of_seed(seed), ..Options::default() };
            let found = self.run(folder, options).unwrap_or_else(|error| panic!("{error}"));
            for (at, found) in found.into_iter().enumerate() {
                let (column, row) = (at / self.rows, at % self.rows);
                let factors = a[row * self.depth..][..self.depth].iter().zip(&b[column * self.depth..][..self.depth]);
                let expected = bf16::from_f32(factors.map(|(a, b)| a * b).sum()).to_f32();
                assert_eq!(found, expected, "{}: column {column}, row {row}, seed {seed}", self.name);
            }
        }
    }
}

#[test]
#[ignore = "needs texts of others: tests/third_party/run"]
fn third_party_products_for_hopper_are_right_and_clean() {
    let folder = std::env::var_os("G2D_THIRD_PARTY").expect("G2D_THIRD_PARTY: a folder of PTX texts");
    let folder = Path::new(&folder);
    for kernel in [tiles_in_turn(), producer_and_consumer(), two_consumers()] {
        kernel.check(folder, 4);
    }
    persistent().check(folder, 1);
    // A defect of the original, which goes unnoticed on hardware.
    let report = without_fence().run(folder, Options::default()).expect_err("its mbarriers are not shown").to_string();
    assert!(report.contains("missing proxy fence") && report.contains("fence.mbarrier_init"), "{report}");
}
