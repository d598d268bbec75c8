// The nearest tokens, counted over all documents; 4294967295 in an empty document.
@group(0) @binding(4) var<storage, read_write> places: array<u32>;

fn placed(n: u32) -> u32 {
    return places[p.places_offset + n];
}

fn place(n: u32, token: u32) {
    places[p.places_offset + n] = token;
}
