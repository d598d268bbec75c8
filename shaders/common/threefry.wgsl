// Threefry-2x32 with 20 rounds: two random words of a key and a counter.
fn threefry_round(x: vec2u, by: u32) -> vec2u {
    let sum = x.x + x.y;
    return vec2u(sum, ((x.y << by) | (x.y >> (32u - by))) ^ sum);
}

fn threefry_odd(x: vec2u) -> vec2u {
    return threefry_round(threefry_round(threefry_round(threefry_round(x, 13u), 15u), 26u), 6u);
}

fn threefry_even(x: vec2u) -> vec2u {
    return threefry_round(threefry_round(threefry_round(threefry_round(x, 17u), 29u), 16u), 24u);
}

fn threefry(key: vec2u, counter: vec2u) -> vec2u {
    let third = 0x1bd11bdau ^ key.x ^ key.y;
    var x = threefry_odd(counter + key) + vec2u(key.y, third + 1u);
    x = threefry_even(x) + vec2u(third, key.x + 2u);
    x = threefry_odd(x) + vec2u(key.x, key.y + 3u);
    x = threefry_even(x) + vec2u(key.y, third + 4u);
    return threefry_odd(x) + vec2u(third, key.x + 5u);
}

// The counter of the element `by` after one.
fn threefry_counter(first: vec2u, by: u32) -> vec2u {
    let low = first.x + by;
    return vec2u(low, first.y + select(0u, 1u, low < by));
}

// -1 or 1, by the highest bit of an element's word.
fn random_sign(key: vec2u, element: u32) -> f32 {
    return select(1.0, -1.0, (threefry(key, vec2u(element, 0u)).x >> 31u) == 1u);
}
