// What stands before every shader.

const WIDTH: u32 = 256u; // threads of a workgroup, all along x, unless the entry says otherwise

/// The number of a workgroup among those that ShaderCall::linear asked for; some at the end may be too many.
fn flat(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

/// e to the power of a number that is not positive, within two units in the last place; zero from where f32 ends. The
/// built-in function may be far less exact.
fn exponential(x: f32) -> f32 {
    let clamped = select(x, -87.0, x < -87.0); // NaN passes
    let power = round(clamped * 1.44269504);
    let rest = clamped - power * 0.693359375 - power * -2.12194440e-4;
    var series = 1.98756910e-4;
    series = series * rest + 1.39819990e-3;
    series = series * rest + 8.33345200e-3;
    series = series * rest + 4.16657960e-2;
    series = series * rest + 1.66666660e-1;
    series = series * rest + 0.5;
    series = (series * rest + 1.0) * rest + 1.0;
    return select(series * bitcast<f32>(u32(i32(power) + 127) << 23u), 0.0, x < -87.0);
}

/// ln(1 + x) for x from 0 to 1, within two units in the last place.
fn ln_1p(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let square = s * s;
    var series = 0.13333334;
    series = series * square + 0.15384616;
    series = series * square + 0.18181819;
    series = series * square + 0.22222222;
    series = series * square + 0.28571430;
    series = series * square + 0.4;
    series = series * square + 0.66666669;
    return s * (square * series) + 2.0 * s;
}

/// The natural logarithm of a number that is not below 1. NaN and infinity pass.
fn logarithm(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let power = f32(i32(bits >> 23u) - 127);
    let rest = ln_1p(bitcast<f32>((bits & 0x007fffffu) | 0x3f800000u) - 1.0);
    return select(power * 0.693359375 + (rest - power * 2.12194440e-4), x, !is_finite(x));
}

/// 1 / (1 + exp(-x)).
fn sigmoid(x: f32) -> f32 {
    let small = exponential(-abs(x));
    return select(1.0, small, x < 0.0) / (1.0 + small);
}

/// Neither NaN nor infinite. Compilers may assume that every number is; not of bits.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

/// The same number, of which a compiler knows nothing where `zero` is a uniform: it can neither merge a rounding with that of
/// the next operation nor put a + (b - a) down as b.
fn rounded(x: f32, zero: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ zero);
}

/// Compilers may take any comparison with NaN for true; not of bits.
fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

/// The binary cross entropy of a logit x and its target: (1 - t) x - log sigmoid(x).
fn cross_entropy(x: f32, t: f32) -> f32 {
    return (1.0 - t) * x - (select(0.0, x, x < 0.0) - ln_1p(exponential(-abs(x))));
}
