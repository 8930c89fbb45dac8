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
