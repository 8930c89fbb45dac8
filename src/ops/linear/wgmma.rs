//! Products of bf16 matrices on Hopper's tensor cores: `ptx/hand/matmul.sm90a.ptx`. Its operands are brought by the copy
//! engine, which is told by tensor maps where they lie; see [`matmul`](super::matmul) for the product and its parts.

use bytemuck::{Pod, Zeroable};

use super::matmul::{Addresses, Form, Product, Rest};
use super::predicted::{MULTIPROCESSORS, TENSOR, seconds};
use crate::program::device::count;
use crate::program::{Address, KernelCall, Misfit, Swizzle, TensorMapSpec, TensorType, Window};

const SYMBOL: &str = "matmul_wgmma_bf16_128x256_sm90a";
/// Rows and columns of the tile that a block computes at a time.
pub const TILE: [usize; 2] = [128, 256];
/// Numbers of k in a turn, and in a line of a box: 128 bytes, the most that are swizzled.
const STEP: usize = 64;
const THREADS: u32 = 384;
/// Four stages, eight warps' sums, eight barriers.
const SHARED: u32 = 4 * 49152 + 8 * 4096 + 8 * 8;
/// Numbers of 16 bytes, of which rows that the copy engine reads consist.
const CHUNK: usize = 8;
/// Bytes of the parameters before the map of b.
const MAP: usize = 128;

/// Parameters of the kernel.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Parameters {
    /// Tensor maps of a and of b, which the device writes.
    maps: [[u8; MAP]; 2],
    rest: Rest,
    /// The struct is a multiple of its alignment.
    nothing: [u64; 7],
}

/// How a product is cut: numbers of k that an item sums, a multiple of 64, and how many such slices there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Numbers of k of a slice.
    pub slice: usize,
    /// Slices; partial sums of several are added by a second kernel.
    pub slices: usize,
}

impl Cut {
    /// By shapes alone, so that every device that takes this kernel adds in the same order: the gradient of a weight has few
    /// tiles and sums over much, so it is cut into slices until every multiprocessor has an item.
    pub fn of(product: &Product) -> Self {
        let wanted = (MULTIPROCESSORS / tiles(product).max(1)).clamp(1, product.most_slices());
        let slice = product.k.max(1).div_ceil(wanted).next_multiple_of(STEP);
        Self { slice, slices: product.k.div_ceil(slice) }
    }

    /// Seconds that the product is predicted to take on Hopper, where so many bytes are read and written at least.
    pub fn seconds(&self, product: &Product, moved: f64) -> f64 {
        let tile = TILE[0] * TILE[1] * self.slice;
        seconds(product, [tile, tiles(product).saturating_mul(self.slices), self.slices], TENSOR, moved)
    }

    /// Bytes of partial sums.
    pub fn workspace_bytes(&self, product: &Product) -> usize {
        product.partials_bytes(self.slices)
    }
}

fn tiles(product: &Product) -> usize {
    product.m.div_ceil(TILE[0]).saturating_mul(product.n.div_ceil(TILE[1]))
}

/// The launches, in order, of a block to each multiprocessor, which goes round the tiles, or to each tile where these are
/// fewer; the result is bf16 if `half`. An error says why the kernel cannot.
pub fn calls(product: &Product, cut: Cut, half: bool, at: Addresses) -> Result<Vec<KernelCall>, Misfit> {
    legal(product)?;
    let &Product { form, m, n, k } = product;
    let rest = product.rest(cut.slice, TILE[1], half, at)?;
    let items = count("tiles", tiles(product))?.min(MULTIPROCESSORS as u32);
    let call = KernelCall::linear(SYMBOL, items, THREADS, &Parameters { maps: [[0; MAP]; 2], rest, nothing: [0; 7] });
    let (a_by_k, b_by_k) = (form == Form::ByWeight, form != Form::Forward);
    let maps = vec![(0, map(at.a, [m, k], TILE[0], a_by_k)), (MAP, map(at.b, [n, k], TILE[1], b_by_k))];
    product.in_slices(KernelCall { shared_bytes: SHARED, maps, ..call }, cut.slice, at)
}

/// How an operand of so many lines (of the tile) and depth k lies in memory: \[lines,k\], of which a box is all lines of the tile
/// and 64 of k; or, `by_k`, \[k,lines\], of which a box is 64 of k and 64 lines.
fn map(address: u64, [lines, k]: [usize; 2], side: usize, by_k: bool) -> TensorMapSpec {
    let (inner, outer, rows) = if by_k { (lines, k, STEP) } else { (k, lines, side) };
    TensorMapSpec {
        dtype: TensorType::Bf16,
        address: Address(address),
        sizes: vec![inner as u64, outer as u64],
        strides: vec![2 * inner as u64],
        window: Window::Tile(vec![STEP as u32, rows as u32]),
        steps: vec![1, 1],
        swizzle: Swizzle::B128,
    }
}

/// Rows that the copy engine reads are multiples of 16 bytes long, as are those that are stored.
fn legal(product: &Product) -> Result<(), Misfit> {
    let &Product { form, m, n, k } = product;
    let inner = match form {
        Form::Forward | Form::ByInput => k,
        Form::ByWeight => m,
    };
    Misfit::unless(m > 0 && n > 0 && k > 0, || format!("a product of [{m},{k}] and [{k},{n}] needs no launch"))?;
    Misfit::unless(inner.is_multiple_of(CHUNK) && n.is_multiple_of(CHUNK), || {
        format!("rows of {inner} and {n} numbers, the copy engine needs multiples of {CHUNK}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::Epilogue;
    use super::*;

    const AT: Addresses = Addresses { a: 0x1000, b: 0x2000, bias: 0, extent: 0, partials: 0, out: 0, epilogue: Epilogue::Store, before: 0 };

    #[test]
    fn the_kernel_declares_the_same_parameters() {
        crate::kernels::assert_parameters::<Parameters>([SYMBOL]);
    }

    #[test]
    fn products_are_cut_so_that_every_multiprocessor_has_an_item() {
        let cut = |form, m, n, k| Cut::of(&Product { form, m, n, k });
        assert_eq!(cut(Form::Forward, 16384, 768, 768), Cut { slice: 768, slices: 1 });
        assert_eq!(cut(Form::ByWeight, 768, 768, 65536), Cut { slice: 9408, slices: 7 }, "18 tiles, 126 items");
        assert_eq!(cut(Form::ByWeight, 768, 3072, 600), Cut { slice: 640, slices: 1 }, "too short to be cut");
    }

    #[test]
    fn blocks_go_round_the_items() {
        let grid = |m, n| calls(&Product { form: Form::Forward, m, n, k: 64 }, Cut { slice: 64, slices: 1 }, true, AT).unwrap()[0].grid[0];
        assert_eq!([grid(1, 8), grid(129, 264), grid(1 << 16, 768)], [1, 4, 132]);
    }

    #[test]
    fn maps_describe_the_operands() {
        let maps = |form| {
            let product = Product { form, m: 200, n: 136, k: 104 };
            let call = calls(&product, Cut { slice: 128, slices: 1 }, false, AT).unwrap().swap_remove(0);
            let told = |(at, map): (usize, TensorMapSpec)| (at, map.address.0, map.sizes, map.strides, map.window);
            call.maps.into_iter().map(told).collect::<Vec<_>>()
        };
        let tile = |inner, outer| Window::Tile(vec![inner, outer]);
        assert_eq!(
            maps(Form::Forward),
            [
                (0, 0x1000, vec![104, 200], vec![208], tile(64, 128)),
                (128, 0x2000, vec![104, 136], vec![208], tile(64, 256))
            ]
        );
        assert_eq!(maps(Form::ByInput)[1], (128, 0x2000, vec![136, 104], vec![272], tile(64, 64)));
        assert_eq!(maps(Form::ByWeight)[0], (0, 0x1000, vec![200, 104], vec![400], tile(64, 64)));
    }

    #[test]
    fn rows_that_the_copy_engine_cannot_read_are_refused() {
        let legal = |form, m, n, k| legal(&Product { form, m, n, k }).is_ok();
        assert!(legal(Form::Forward, 3, 8, 8) && !legal(Form::Forward, 8, 8, 12) && !legal(Form::Forward, 8, 4, 8));
        assert!(legal(Form::ByInput, 3, 8, 16) && !legal(Form::ByInput, 8, 4, 8));
        assert!(legal(Form::ByWeight, 8, 16, 3) && !legal(Form::ByWeight, 8, 9, 8) && !legal(Form::ByWeight, 9, 8, 8));
        assert!(!legal(Form::ByWeight, 8, 8, 0), "nothing to sum");
    }
}
