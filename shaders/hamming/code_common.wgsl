// What the kernels of attention by code tables share: their parameters and how codes and tables are read.
//
// Items (keys with values, or queries with gradients) are inserted in tables, readers look up sums in them. Both come in lists of
// `len`; a list of items has `share` tables, and `readers` lists of readers share `span` tables. A table has a row of value + 1
// columns for each of 2^bits codes. Lists, tables and rows are counted from the start of the bound ranges; offsets wrap.
struct Params {
    len: u32,
    value: u32,
    bits: u32,
    lists: u32,
    share: u32,
    readers: u32,
    span: u32,
    blocks: u32,
    bins: u32,
    shift: u32,
    first: u32,
    groups: u32,
    begin: u32,
    end: u32,
    codes_offset: u32,
    items_offset: u32,
    rows_offset: u32,
    own_offset: u32,
    out_offset: u32,
    table_offset: u32,
    first_table: u32,
    sets: u32,
    x_shift: u32,
    x_bits: u32,
    y_shift: u32,
    y_bits: u32,
}
var<immediate> p: Params;

// The bits of a word that count.
fn counted(word: u32) -> u32 {
    return word & ((1u << p.bits) - 1u);
}

fn x_of(code: u32) -> u32 {
    return (code >> p.x_shift) & ((1u << p.x_bits) - 1u);
}

fn y_of(code: u32) -> u32 {
    return (code >> p.y_shift) & ((1u << p.y_bits) - 1u);
}

// Where a row of a table starts.
fn table_row(table: u32, row: u32) -> u32 {
    return p.table_offset + ((table << p.bits) + row) * (p.value + 1u);
}

// The x-th table of a list of readers.
fn table_of(list: u32, x: u32) -> u32 {
    return list / p.readers * p.span + x;
}
