//! [`PseudoMask`] on CUDA: `ptx/hand/pseudo_mask.ptx`. One kernel finds the cut of each image and
//! a bit for each pixel, a second one makes numbers of the bits and smooths them.

use bytemuck::{Pod, Zeroable};

use super::{Compare, PseudoMask, Upsample};
use crate::base::{DType, Shape};
use crate::program::device::exact;
use crate::program::{DeviceIo, KernelCall, Misfit};

/// The kernels by which the pixels of cells are counted.
pub const COUNTING: &str = "counting";
/// The kernels by which the plane is searched.
pub const RADIX: &str = "radix";
const SELECT: &str = "pseudo_mask_select_f32_sm80";
const SPREAD: &str = "pseudo_mask_spread_f32_sm80";
/// Cells whose mean fits the shared memory that every device gives, beside what the kernel has itself.
const MOST_CELLS: usize = 8192;
/// Cells whose pixels are counted: two entries each, in a table of 128.
const MOST_COUNTED: usize = 64;
/// The largest radius whose weights fit the parameters.
const MOST_RADIUS: usize = 7;
/// Squared distances up to that radius.
const DISTANCES: usize = MOST_RADIUS * MOST_RADIUS + 1;
/// Warps of a block of the second kernel, a word of bits each.
const SPREAD_WARPS: u32 = 8;

/// How the order statistics are found. Both are exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Nearest upsampling makes at most two scores per cell: their pixels are counted.
    Counting,
    /// Radix select over the plane.
    Radix,
}

/// Where the operands lie.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// \[B,heads,h,w\] f32.
    pub map: u64,
    /// \[B,H,W\] bytes; of no account if the op takes none.
    pub body: u64,
    /// \[B\] f32; of no account if the op takes none.
    pub threshold: u64,
    /// [`workspace_bytes`] bytes between the two kernels.
    pub bits: u64,
    /// \[B,H,W\] f32.
    pub mask: u64,
}

/// Parameters of the first kernel.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Select {
    map: u64,
    body: u64,
    bits: u64,
    heads: u32,
    rows: u32,
    columns: u32,
    height: u32,
    width: u32,
    words: u32,
    below: u32,
    above: u32,
    factor: f32,
    row_scale: f32,
    column_scale: f32,
    from_above: u32,
    strict: u32,
    bilinear: u32,
    products: u32,
    counting: u32,
    threshold: u64,
    shift: u32,
    unused: u32,
}

/// Parameters of the second kernel.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Spread {
    bits: u64,
    mask: u64,
    items: u32,
    height: u32,
    width: u32,
    words: u32,
    radius: u32,
    /// For each squared distance that of an equal pixel and that of the other kind.
    weights: [[f32; 2]; DISTANCES],
    unused: u32,
}

/// Words of bits for a map of this shape; an error if they are too many to count.
fn words(op: &PseudoMask, batch: usize) -> Result<u32, Misfit> {
    let words = batch.saturating_mul(op.height).saturating_mul(op.width.div_ceil(32));
    let fits = u32::try_from(words).ok().filter(|&words| words <= i32::MAX as u32);
    fits.ok_or_else(|| Misfit::new(format!("the masks take {words} words of bits, at most 2^31 - 1 can be")))
}

/// Bytes between the two kernels for a map of this shape, 4-byte aligned.
pub fn workspace_bytes(op: &PseudoMask, map: Shape) -> Result<usize, Misfit> {
    Ok(4 * words(op, map.dims()[0])? as usize)
}

/// Asks for the launches of one of the two forms.
pub fn run(op: &PseudoMask, kernel: &'static str, io: &mut DeviceIo) -> Result<(), Misfit> {
    let map = io.input(0);
    let shape = map.spec.shape;
    Misfit::unless(map.dtype == DType::F32, || format!("map is {}, f32 is needed", map.dtype.name()))?;
    let form = if kernel == COUNTING { Form::Counting } else { Form::Radix };
    let body = if op.body { io.input(1).address } else { 0 };
    let threshold = op.threshold().map_or(Ok(0), |input| exact("threshold", io.input(input)))?;
    let bits = io.workspace(workspace_bytes(op, shape)?);
    let at = Buffers { map: map.address, body, threshold, bits, mask: io.output(0).address };
    calls(op, shape, form, at)?.into_iter().for_each(|call| io.launch(call));
    Ok(())
}

/// The two launches, in order. An error says why the kernels cannot do this op, or not in this form.
pub fn calls(op: &PseudoMask, map: Shape, form: Form, at: Buffers) -> Result<[KernelCall; 2], Misfit> {
    let &[batch, heads, rows, columns] = map.dims() else {
        return Err(Misfit::new(format!("map has shape {map}, [B,heads,h,w] is needed")));
    };
    legal(op, [batch, heads, rows, columns], form)?;
    let items = words(op, batch)?;
    let number = |extent: usize| extent as u32;
    let words = number(op.width.div_ceil(32));
    let (below, above, weight) = op.rank();
    // torch's lerp goes from the nearer end.
    let from_above = weight >= 0.5;
    let (height, width) = (number(op.height), number(op.width));
    let select = Select {
        map: at.map,
        body: if op.body { at.body } else { 0 },
        bits: at.bits,
        heads: number(heads),
        rows: number(rows),
        columns: number(columns),
        height,
        width,
        words,
        below: number(below),
        above: number(above),
        factor: if from_above { -((1.0 - weight) as f32) } else { weight as f32 },
        row_scale: rows as f32 / op.height as f32,
        column_scale: columns as f32 / op.width as f32,
        from_above: u32::from(from_above),
        strict: u32::from(op.compare == Compare::Above),
        bilinear: u32::from(op.upsample == Upsample::Bilinear),
        products: u32::from(op.multiplies_weights_first()),
        counting: u32::from(form == Form::Counting),
        threshold: if op.given { at.threshold } else { 0 },
        shift: number(op.shift),
        unused: 0,
    };
    let (radius, weights) = weights(op);
    let spread = Spread { bits: at.bits, mask: at.mask, items, height, width, words, radius, weights, unused: 0 };
    let shared_bytes = 4 * number(rows * columns);
    let select = KernelCall { shared_bytes, ..KernelCall::linear(SELECT, number(batch), 1024, &select) };
    Ok([select, KernelCall::linear(SPREAD, items.div_ceil(SPREAD_WARPS), 32 * SPREAD_WARPS, &spread)])
}

/// What the kernels assume.
fn legal(op: &PseudoMask, [batch, heads, rows, columns]: [usize; 4], form: Form) -> Result<(), Misfit> {
    let cells = rows.saturating_mul(columns);
    Misfit::unless(batch > 0, || "a batch without images needs no launch".into())?;
    Misfit::unless(cells <= MOST_CELLS, || {
        format!("{rows} x {columns} cells, at most {MOST_CELLS} fit shared memory")
    })?;
    let counted = op.upsample == Upsample::Nearest && cells <= MOST_COUNTED;
    Misfit::unless(form == Form::Radix || counted, || {
        format!("{:?} upsampling of {cells} cells: only Nearest of at most {MOST_COUNTED} is counted", op.upsample)
    })?;
    let fits = |product: usize, bound: usize| product <= bound;
    let pixels = op.height.saturating_mul(op.width);
    let addressed = fits(pixels, i32::MAX as usize)
        && fits(op.height.saturating_mul(rows + 1), u32::MAX as usize)
        && fits(op.width.saturating_mul(columns + 1), u32::MAX as usize)
        && fits(cells.saturating_mul(heads), i32::MAX as usize);
    Misfit::unless(addressed, || format!("{} x {} pixels are more than 32 bits count", op.height, op.width))?;
    let radius = op.smooth.map_or(0, |filter| filter.radius());
    Misfit::unless(radius <= MOST_RADIUS, || format!("a filter of radius {radius}, at most {MOST_RADIUS} fits"))
}

/// Radius and weights of the filter; without one, the pixel itself.
fn weights(op: &PseudoMask) -> (u32, [[f32; 2]; DISTANCES]) {
    let mut weights = [[1.0; 2]; DISTANCES];
    let Some(filter) = op.smooth else { return (0, weights) };
    let reached = filter.radius() * filter.radius() + 1;
    for (distance2, pair) in weights.iter_mut().enumerate().take(reached) {
        *pair = [0.0, 1.0].map(|difference| filter.weight(distance2, difference));
    }
    (filter.radius() as u32, weights)
}

#[cfg(test)]
mod tests {
    use super::{Buffers, Form, SELECT, SPREAD, Select, Spread, calls, workspace_bytes};
    use crate::base::{Real, Shape};
    use crate::ops::pseudo_mask::{Bilateral, Compare, PseudoMask, Upsample};

    const OP: PseudoMask = PseudoMask {
        height: 256,
        width: 250,
        quantile: Real(0.85),
        given: false,
        upsample: Upsample::Nearest,
        compare: Compare::Above,
        body: false,
        smooth: None,
        shift: 0,
    };
    const AT: Buffers = Buffers { map: 0, body: 0, threshold: 0, bits: 0, mask: 0 };

    #[test]
    fn the_kernels_declare_the_same_parameters() {
        crate::kernels::assert_parameters::<Select>([SELECT]);
        crate::kernels::assert_parameters::<Spread>([SPREAD]);
    }

    #[test]
    fn launches_cover_the_planes() {
        let map = Shape::from([3, 4, 8, 8]);
        let [select, spread] = calls(&OP, map, Form::Counting, AT).unwrap();
        assert_eq!((select.grid, select.block, select.shared_bytes), ([3, 1, 1], [1024, 1, 1], 256));
        assert_eq!((spread.grid, spread.block), ([3 * 256, 1, 1], [256, 1, 1]), "eight words of a row per block");
        assert_eq!(workspace_bytes(&OP, map).unwrap(), 3 * 256 * 8 * 4);
    }

    #[test]
    fn what_the_kernels_cannot_do_is_refused() {
        let smooth = |diameter| Some(Bilateral { diameter, sigma_space: Real(1.0), sigma_value: Real(1.0) });
        let refused = |op: PseudoMask, map: [usize; 4], form| calls(&op, map.into(), form, AT).is_err();
        assert!(refused(OP, [1, 1, 8, 9], Form::Counting), "72 cells");
        assert!(!refused(OP, [1, 1, 8, 9], Form::Radix));
        assert!(refused(PseudoMask { upsample: Upsample::Bilinear, ..OP }, [1, 1, 2, 2], Form::Counting));
        assert!(refused(OP, [1, 1, 91, 91], Form::Radix), "more cells than shared memory");
        assert!(refused(PseudoMask { smooth: smooth(17), ..OP }, [1, 1, 2, 2], Form::Radix));
        assert!(!refused(PseudoMask { smooth: smooth(15), ..OP }, [1, 1, 2, 2], Form::Radix));
        assert!(refused(PseudoMask { height: 1 << 16, width: 1 << 16, ..OP }, [1, 1, 2, 2], Form::Radix));
        assert!(refused(OP, [0, 1, 2, 2], Form::Radix), "no image");
    }
}
