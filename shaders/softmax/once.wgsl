// All keys in one dispatch: nothing is carried.
const CARRIES: bool = false;

fn carried_most(at: u32) -> f32 {
    return LOWEST;
}

fn carried_sum(at: u32) -> f32 {
    return 0.0;
}

fn carry(at: u32, most: f32, sum: f32) {}
