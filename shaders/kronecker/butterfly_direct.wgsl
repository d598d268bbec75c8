// A window that reaches over the whole pass: items go from memory to registers and back.
fn fetch(here: Here, i: u32) -> Item {
    if (here.live) {
        return source(here.base + i * p.stride);
    }
    return Item();
}

fn keep(here: Here, i: u32, x: Item) {
    if (here.live) {
        items[here.base + i * p.stride] = x;
    }
}

fn enter(tile: u32, lane: u32) {}

fn leave(tile: u32, lane: u32) {}

fn wait() {}
