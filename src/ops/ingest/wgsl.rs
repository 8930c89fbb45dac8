//! [`Ingest`](super::Ingest) in WGSL: `kernels/ingest.wgsl`. A workgroup augments a film; without augmentation a thread has a
//! pixel.

use bytemuck::{Pod, Zeroable};

use super::{Ingest, Source};
use crate::program::device::count;
use crate::program::{Misfit, ShaderCall, ShaderIo};

/// Name of the kernels within the op.
pub const KERNEL: &str = "films";
/// Pixels along a side, at most: f32 has all whole numbers up to there.
const MOST_SIDE: u32 = 1 << 24;

/// Parameters of the kernels.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Parameters {
    films: u32,
    height: u32,
    width: u32,
    means: [f32; 3],
    deviations: [f32; 3],
    /// A zero that compilers do not know.
    zero: u32,
}

/// Asks for the dispatch; for none if there are no films.
pub fn run(op: &Ingest, io: &mut ShaderIo) -> Result<(), Misfit> {
    let [films, height, width] = io.dims(0);
    let sides = [count("the height", height)?, count("the width", width)?];
    Misfit::unless(sides.iter().all(|&side| side <= MOST_SIDE), || {
        format!("films of {height} x {width} pixels, sides of {MOST_SIDE} at most are exact")
    })?;
    let pixels = count("pixels of all films", films.saturating_mul(height.saturating_mul(width)))?;
    if films == 0 {
        return Ok(());
    }
    let channels = op.normalise.channels();
    let parameters = Parameters {
        films: films as u32,
        height: sides[0],
        width: sides[1],
        means: channels.map(|(mean, _)| mean as f32),
        deviations: channels.map(|(_, deviation)| deviation as f32),
        zero: 0,
    };
    match op.source {
        Source::Bytes => {
            let (plane, image, augmentation) = (io.output(0), io.output(1), io.input(1));
            let bindings = [plane, image, io.input(0), augmentation].map(|buffer| buffer.binding());
            io.launch(ShaderCall::linear("ingest.bytes", parameters.films, bindings, &parameters));
        }
        Source::Numbers => {
            let (plane, image) = (io.input(0), io.output(0));
            io.each("ingest.numbers", pixels, [plane.binding(), image.binding()], &parameters);
        }
    }
    Ok(())
}
