//! Products of bf16 matrices on CUDA's tensor cores: `ptx/hand/matmul.ptx`. [`Linear`](super::Linear) and convolutions
//! of single pixels ask for them.

use bytemuck::{Pod, Zeroable};

use super::Epilogue;
use super::predicted::{SYNCHRONOUS, TENSOR, moved, seconds};
use super::wgmma;
use crate::base::DType;
use crate::program::device::count;
use crate::program::{DeviceBuffer, DeviceIo, KernelCall, Misfit};

const REDUCE: &str = "matmul_reduce_f32_sm80";
/// Blocks that keep a large device busy: two for each of 132 multiprocessors.
const BUSY: usize = 264;
/// Numbers of k below which a slice is not worth its partial sums, and slices at most.
const LEAST_SLICE: usize = 512;
const MOST_SLICES: usize = 64;
/// Numbers of k that the kernels multiply at a time: slices are a multiple of it.
const STEP: usize = 32;
/// Numbers of 16 bytes, which are copied at a time.
const CHUNK: usize = 8;

/// Which product, and how its operands a and b are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// y = x · wᵀ: a is x \[m,k\], b is w \[n,k\].
    Forward,
    /// dx = dy · w: a is dy \[m,k\], b is w \[k,n\].
    ByInput,
    /// dw = dyᵀ · x: a is dy \[k,m\], b is x \[k,n\].
    ByWeight,
}

/// The kernels, by the rows and columns of the tile that a block computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tile {
    /// 128 x 128.
    Large,
    /// 64 x 64.
    Small,
}

impl Tile {
    fn side(self) -> usize {
        match self {
            Self::Large => 128,
            Self::Small => 64,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Large => "matmul_mma_bf16_128x128_sm80",
            Self::Small => "matmul_mma_bf16_64x64_sm80",
        }
    }

    fn threads(self) -> u32 {
        match self {
            Self::Large => 256,
            Self::Small => 128,
        }
    }
}

/// How a product is cut into blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The kernel.
    pub tile: Tile,
    /// Numbers of k that one block sums; partial sums of several slices are added by a second kernel.
    pub slice: usize,
}

/// A product \[m,k\] · \[k,n\].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Product {
    /// Which.
    pub form: Form,
    /// Rows of the result.
    pub m: usize,
    /// Its columns.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
}

/// Where the operands lie.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// bf16.
    pub a: u64,
    /// bf16.
    pub b: u64,
    /// \[n\] f32; 0 if none is added.
    pub bias: u64,
    /// One i32: how many of the leading rows of a are there; 0 if all are.
    pub extent: u64,
    /// [`Product::workspace_bytes`] bytes.
    pub partials: u64,
    /// The result.
    pub out: u64,
    /// What it meets, at the address `before`.
    pub epilogue: Epilogue,
    /// bf16, of the shape of the result: what it meets, or where what is made of it goes; 0 if there is neither.
    pub before: u64,
}

/// Parameters of the product kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    a: u64,
    b: u64,
    rest: Rest,
}

/// What every kernel of a product is told behind where its operands lie.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Rest {
    bias: u64,
    extent: u64,
    out: u64,
    before: u64,
    m: u32,
    n: u32,
    k: u32,
    slice: u32,
    tiles: u32,
    a_by_k: u32,
    b_by_k: u32,
    half: u32,
    then: u32,
    unused: u32,
}

/// Parameters of the kernel that adds partial sums.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Reduce {
    partials: u64,
    out: u64,
    count: u32,
    slices: u32,
}

impl Product {
    /// Large tiles where they keep a device busy, slices of k where even small ones do not. Shapes alone decide, so that
    /// every device that takes this kernel adds in the same order.
    pub fn cut(&self) -> Cut {
        let enough = |tile| self.tiles(tile).saturating_mul(self.most_slices()) >= BUSY / 2;
        let wide = self.m > Tile::Small.side() && self.n > Tile::Small.side();
        let tile = if wide && enough(Tile::Large) { Tile::Large } else { Tile::Small };
        let slices = BUSY.div_ceil(self.tiles(tile)).min(self.most_slices());
        Cut { tile, slice: self.k.div_ceil(slices).next_multiple_of(STEP) }
    }

    /// Only the gradient of a weight sums over so much that slices pay.
    pub(super) fn most_slices(&self) -> usize {
        if self.form == Form::ByWeight { (self.k / LEAST_SLICE).clamp(1, MOST_SLICES) } else { 1 }
    }

    fn tiles(&self, tile: Tile) -> usize {
        self.m.div_ceil(tile.side()).saturating_mul(self.n.div_ceil(tile.side()))
    }

    fn slices(&self, cut: Cut) -> usize {
        self.k.div_ceil(cut.slice)
    }

    /// Bytes of partial sums.
    pub fn workspace_bytes(&self, cut: Cut) -> usize {
        self.partials_bytes(self.slices(cut))
    }

    /// Bytes of the partial sums of so many slices.
    pub(super) fn partials_bytes(&self, slices: usize) -> usize {
        if slices > 1 { 4 * slices * self.m * self.n } else { 0 }
    }

    /// What its kernel is told whose blocks sum `slice` numbers of k in tiles of `width` columns.
    pub(super) fn rest(&self, slice: usize, width: usize, half: bool, at: Addresses) -> Result<Rest, Misfit> {
        let &Self { form, m, n, k } = self;
        let of = match at.epilogue {
            Epilogue::Store => None,
            Epilogue::Add | Epilogue::GeluSlope => Some(Form::ByInput),
            Epilogue::Gelu => Some(Form::Forward),
        };
        Misfit::unless(of.is_none_or(|of| half && form == of), || {
            format!("{:?} is for bf16 {of:?}, not for {form:?}", at.epilogue)
        })?;
        Ok(Rest {
            bias: at.bias,
            extent: at.extent,
            out: if k > slice { at.partials } else { at.out },
            before: at.before,
            m: count("rows", m)?,
            n: count("columns", n)?,
            k: count("the inner extent", k)?,
            slice: count("a slice", slice)?,
            tiles: n.div_ceil(width) as u32,
            a_by_k: u32::from(form == Form::ByWeight),
            b_by_k: u32::from(form != Form::Forward),
            half: u32::from(half),
            then: at.epilogue as u32,
            unused: 0,
        })
    }

    /// A launch for each slice of k, and the one that adds what several give.
    pub(super) fn in_slices(&self, call: KernelCall, slice: usize, at: Addresses) -> Result<Vec<KernelCall>, Misfit> {
        let slices = self.k.div_ceil(slice);
        let [blocks, ..] = call.grid;
        let grid = [blocks, count("slices", slices)?, 1];
        if slices == 1 {
            return Ok(vec![KernelCall { grid, ..call }]);
        }
        let added = reduce(at.partials, at.out, self.m.saturating_mul(self.n), slices)?;
        Ok(vec![KernelCall { grid, part: slice, ..call }, added])
    }

    /// Seconds that it is predicted to take on Hopper, where so many bytes are read and written at least.
    pub fn seconds(&self, cut: Cut, moved: f64) -> f64 {
        let (tile, slices) = (cut.tile.side() * cut.tile.side() * cut.slice, self.slices(cut));
        seconds(self, [tile, self.tiles(cut.tile).saturating_mul(slices), slices], TENSOR * SYNCHRONOUS, moved)
    }

    /// The launches, in order; the result is bf16 if `half`. An error says why the kernels cannot.
    pub fn calls(&self, cut: Cut, half: bool, at: Addresses) -> Result<Vec<KernelCall>, Misfit> {
        self.legal()?;
        let rest = self.rest(cut.slice, cut.tile.side(), half, at)?;
        let blocks = count("tiles", self.tiles(cut.tile))?;
        let parameters = Parameters { a: at.a, b: at.b, rest };
        let call = KernelCall::linear(cut.tile.symbol(), blocks, cut.tile.threads(), &parameters);
        self.in_slices(call, cut.slice, at)
    }

    /// Rows that are copied in chunks of 16 bytes begin at a multiple of them.
    fn legal(&self) -> Result<(), Misfit> {
        let &Self { form, m, n, k } = self;
        let rows = match form {
            Form::Forward => [k, k],
            Form::ByInput => [k, n],
            Form::ByWeight => [m, n],
        };
        Misfit::unless(m > 0 && n > 0 && k > 0, || format!("a product of [{m},{k}] and [{k},{n}] needs no launch"))?;
        Misfit::unless(rows.iter().all(|row| row.is_multiple_of(CHUNK)), || {
            format!("rows of {} and {} numbers, multiples of {CHUNK} are needed", rows[0], rows[1])
        })
    }
}

/// The launch that adds `slices` partial sums of `numbers` numbers each, in their order; all of them f32.
pub fn reduce(partials: u64, out: u64, numbers: usize, slices: usize) -> Result<KernelCall, Misfit> {
    let (count, slices) = (count("numbers of a sum", numbers)?, count("slices", slices)?);
    Ok(KernelCall::linear(REDUCE, count.div_ceil(256), 256, &Reduce { partials, out, count, slices }))
}

/// How many partial sums a call of [`reduce`] adds up; `None` of another kernel.
pub fn reduced(call: &KernelCall) -> Option<usize> {
    let told = (call.symbol == REDUCE).then(|| bytemuck::pod_read_unaligned::<Reduce>(&call.parameters))?;
    Some(told.slices as usize)
}

/// Name, within an op, of the kernels by `mma.sync`: this module's.
pub const MMA: &str = "mma";
/// Of those by `wgmma`: [`wgmma`]'s.
pub const WGMMA: &str = "wgmma";

/// Asks for a product by the kernel of that name; `extent` is the address of the number of rows that are there, `before` that
/// of what the product meets in the epilogue, or makes there.
pub fn run(
    kernel: &'static str,
    product: Product,
    [a, b, out]: [DeviceBuffer; 3],
    bias: Option<DeviceBuffer>,
    extent: Option<u64>,
    (epilogue, before): (Epilogue, u64),
    io: &mut DeviceIo,
) -> Result<(), Misfit> {
    Misfit::unless(a.dtype == DType::Bf16 && b.dtype == DType::Bf16, || {
        format!("operands are {} and {}, bf16 is needed", a.dtype.name(), b.dtype.name())
    })?;
    let (bias, extent) = (bias.map_or(0, |bias| bias.address), extent.unwrap_or(0));
    let mut at = Addresses { a: a.address, b: b.address, bias, extent, partials: 0, out: out.address, epilogue, before };
    let half = out.dtype == DType::Bf16;
    let calls = if kernel == WGMMA {
        let cut = wgmma::Cut::of(&product);
        io.predict(cut.seconds(&product, moved(io)));
        at.partials = io.workspace(cut.workspace_bytes(&product));
        wgmma::calls(&product, cut, half, at)?
    } else {
        let cut = product.cut();
        io.predict(product.seconds(cut, moved(io)));
        at.partials = io.workspace(product.workspace_bytes(cut));
        product.calls(cut, half, at)?
    };
    calls.into_iter().for_each(|call| io.launch(call));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Addresses, Cut, Epilogue, Form, Parameters, Product, REDUCE, Reduce, Tile};

    const AT: Addresses = Addresses { a: 0, b: 0, bias: 0, extent: 0, partials: 0, out: 0, epilogue: Epilogue::Store, before: 0 };

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([Tile::Large, Tile::Small].map(Tile::symbol));
        crate::kernels::assert_parameters::<Reduce>([REDUCE]);
    }

    #[test]
    fn products_are_cut_to_keep_a_device_busy() {
        let cut = |form, m, n, k| Product { form, m, n, k }.cut();
        assert_eq!(cut(Form::Forward, 16384, 768, 768), Cut { tile: Tile::Large, slice: 768 });
        assert_eq!(cut(Form::Forward, 256, 768, 768), Cut { tile: Tile::Small, slice: 768 }, "12 large tiles");
        assert_eq!(cut(Form::Forward, 1 << 20, 64, 64), Cut { tile: Tile::Small, slice: 64 }, "narrow");
        assert_eq!(cut(Form::ByWeight, 768, 768, 16384), Cut { tile: Tile::Large, slice: 2048 }, "36 tiles, 8 slices");
        assert_eq!(cut(Form::ByWeight, 64, 64, 1 << 20), Cut { tile: Tile::Small, slice: 1 << 14 }, "64 slices");
        assert_eq!(cut(Form::ByWeight, 8, 8, 40), Cut { tile: Tile::Small, slice: 64 }, "a multiple of 32");
    }

    #[test]
    fn launches_cover_the_result() {
        let product = Product { form: Form::ByWeight, m: 200, n: 136, k: 100 };
        let cut = Cut { tile: Tile::Large, slice: 64 };
        let calls = product.calls(cut, false, AT).unwrap();
        assert_eq!(calls[0].grid, [4, 2, 1]);
        assert_eq!((calls[1].symbol, calls[1].grid), (REDUCE, [107, 1, 1]), "27200 numbers");
        assert_eq!(product.workspace_bytes(cut), 2 * 200 * 136 * 4);
        assert_eq!(product.workspace_bytes(Cut { slice: 128, ..cut }), 0);
    }

    #[test]
    fn rows_that_are_not_aligned_are_refused() {
        let legal = |form, m, n, k| {
            let product = Product { form, m, n, k };
            product.calls(product.cut(), false, AT).is_ok()
        };
        assert!(legal(Form::Forward, 3, 5, 8) && !legal(Form::Forward, 8, 8, 12));
        assert!(legal(Form::ByInput, 3, 8, 16) && !legal(Form::ByInput, 8, 4, 8) && !legal(Form::ByInput, 8, 8, 4));
        assert!(legal(Form::ByWeight, 8, 16, 3) && !legal(Form::ByWeight, 8, 9, 8) && !legal(Form::ByWeight, 9, 8, 8));
        assert!(!legal(Form::ByWeight, 8, 8, 0), "nothing to sum");
    }
}
