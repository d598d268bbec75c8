// The gradient of a column of `map_dpfp`.
fn pull_rectified(home: u32, row: u32, i: u32) -> f32 {
    var sum = 0.0;
    for (var n = 0u; n < NU; n++) {
        let j = (1u + n) % (2u * KEY);
        let before = (i + 2u * KEY - j) % (2u * KEY);
        let after = (i + j) % (2u * KEY);
        sum += grad(row, 2u * KEY * n + i) * rectified(home, before);
        sum += grad(row, 2u * KEY * n + after) * rectified(home, after);
    }
    return sum;
}

fn pull(home: u32, row: u32, k: u32) -> f32 {
    let v = staged[home + k];
    var out = 0.0;
    if (v > 0.0) {
        out = pull_rectified(home, row, k);
    }
    if (select((v < 0.0), (v > 0.0), SIGNED)) {
        out -= pull_rectified(home, row, KEY + k);
    }
    return out;
}
