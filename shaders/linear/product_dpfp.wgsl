// A feature of `map_dpfp`.
fn product(home: u32, f: u32) -> f32 {
    let i = f % (2u * KEY);
    let j = (1u + f / (2u * KEY)) % (2u * KEY);
    return rectified(home, i) * rectified(home, (i + 2u * KEY - j) % (2u * KEY));
}
