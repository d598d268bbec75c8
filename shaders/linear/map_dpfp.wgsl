// r_i r_{i-j}, j = 1..NU, r = [max(x, 0), max(-x, 0)], or with SIGNED [max(x, 0), -max(x, 0)]; 2*KEY features to a j.
fn rectified(home: u32, i: u32) -> f32 {
    let v = staged[home + i % KEY];
    return select(select(max(-v, 0.0), -max(v, 0.0), SIGNED), max(v, 0.0), i < KEY);
}
