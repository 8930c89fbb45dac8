//! What a driver would refuse before anything runs: CUDA programming guide, table of technical specifications, for
//! compute capability 9.0.

use super::super::{DriverError, Launch};
use super::instr::Function;

/// Threads of a block.
pub const THREADS: u64 = 1024;

/// Threads of a block along each axis.
const BLOCK: [u64; 3] = [1024, 1024, 64];

/// Blocks of a grid along each axis.
const GRID: [u64; 3] = [(1 << 31) - 1, 65_535, 65_535];

/// Bytes of shared memory of a block with nothing asked for.
pub const SHARED_DEFAULT: u32 = 48 << 10;

/// Bytes of shared memory that a block can be allowed: 227 KiB.
pub const SHARED_MOST: u32 = 227 << 10;

/// Bytes of parameters, since CUDA 12.1.
pub const PARAMETERS: u64 = 32_764;

fn bound(what: String, asked: u64, allowed: u64) -> Result<(), DriverError> {
    if asked <= allowed { Ok(()) } else { Err(DriverError::Limit { what, asked, allowed }) }
}

/// Blocks of a launch; the emulated device numbers them with 32 bits.
pub fn count_blocks(function: &Function, launch: &Launch) -> Result<u32, DriverError> {
    let most = u32::MAX - 1;
    let product = launch.grid.iter().try_fold(1u64, |product, extent| product.checked_mul((*extent).into()));
    let blocks = product.unwrap_or(u64::MAX);
    bound(format!("blocks of one launch of `{}` on the emulated device", function.name), blocks, most.into())?;
    Ok(blocks as u32)
}

/// Looks at the parameters of a kernel.
pub fn check_parameters(function: &Function) -> Result<(), DriverError> {
    bound(format!("parameter bytes of `{}`", function.name), function.param_bytes as u64, PARAMETERS)
}

/// Looks at the static shared memory of a kernel, which has this bound in every case: an assembler knows it already.
pub fn check_static_shared(function: &Function) -> Result<(), DriverError> {
    let name = &function.name;
    bound(format!("static shared memory of `{name}`"), function.shared_bytes.into(), SHARED_DEFAULT.into())
}

/// Looks at a launch, and at the parameters again, which may have been loaded unchecked; `allowed` is the dynamic shared memory that the kernel may have.
pub fn check_launch(function: &Function, launch: &Launch, parameters: usize, allowed: u32) -> Result<(), DriverError> {
    check_parameters(function)?;
    let name = &function.name;
    let invalid = |text: String| Err(DriverError::Invalid(text));
    let axes = [("x", 0), ("y", 1), ("z", 2)];
    for (axis, at) in axes {
        if launch.grid[at] == 0 || launch.block[at] == 0 {
            return invalid(format!("`{name}` is launched with nothing along {axis}: {launch:?}"));
        }
        bound(format!("grid size along {axis} of `{name}`"), launch.grid[at].into(), GRID[at])?;
        bound(format!("block size along {axis} of `{name}`"), launch.block[at].into(), BLOCK[at])?;
    }
    let threads: u64 = launch.block.map(u64::from).iter().product();
    bound(format!("threads per block of `{name}`"), threads, THREADS)?;
    if let Some(most) = function.max_threads {
        let most = most.map(u64::from).iter().product();
        bound(format!("threads per block of `{name}`, by its .maxntid"), threads, most)?;
    }
    if let Some(required) = function.required_threads
        && required != launch.block
    {
        return invalid(format!("`{name}` must have blocks of {required:?} threads, not {:?}", launch.block));
    }
    bound(format!("dynamic shared memory of `{name}`"), launch.shared.into(), allowed.into())?;
    let shared = u64::from(function.shared_bytes) + u64::from(launch.shared);
    bound(format!("shared memory of `{name}`"), shared, SHARED_MOST.into())?;
    if parameters != function.param_bytes {
        return invalid(format!("`{name}` takes {} bytes of parameters, not {parameters}", function.param_bytes));
    }
    Ok(())
}
