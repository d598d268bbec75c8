//! Parameters of the kernels, as their shaders declare them.

use crate::gpu::params;

params! {
    /// Parameters of the forward kernels over pairs.
    Params {
        a_offset: u32,
        b_offset: u32,
        a_len: u32,
        b_len: u32,
        words: u32,
        last: u32,
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        capacity: u32,
        tiles: u32,
        tile_base: u32,
        splits: u32,
        split_len: u32,
        first: u32,
        groups: u32,
        begin: u32,
        end: u32,
        causal: u32,
        window: u32,
        sinks: u32,
        value: u32,
        v_offset: u32,
        bits: u32,
        segment: u32,
    }
}

params! {
    /// Parameters of `attention_cut`.
    CutParams {
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        tiles: u32,
        tile_base: u32,
        bits: u32,
        top_n: u32,
        radius: u32,
        ties: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `attention_merge`.
    MergeParams {
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        tiles: u32,
        tile_base: u32,
        splits: u32,
        value: u32,
        bits: u32,
        o_offset: u32,
        lse_offset: u32,
        kept_offset: u32,
        first: u32,
        end: u32,
    }
}

params! {
    /// Parameters of `attention_grad_rows`.
    RowsParams {
        value: u32,
        o_offset: u32,
        kept_offset: u32,
        rows_offset: u32,
        first: u32,
        end: u32,
    }
}

params! {
    /// Parameters of the gradients' kernels over pairs.
    GradParams {
        a_offset: u32,
        b_offset: u32,
        a_len: u32,
        b_len: u32,
        words: u32,
        last: u32,
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        capacity: u32,
        tiles: u32,
        first: u32,
        groups: u32,
        begin: u32,
        end: u32,
        causal: u32,
        window: u32,
        sinks: u32,
        value: u32,
        v_offset: u32,
        bits: u32,
        rows_offset: u32,
        do_offset: u32,
        out_offset: u32,
    }
}

params! {
    /// Parameters of `attention_clip`.
    ClipParams {
        clip: f32,
        threshold: f32,
        count: u32,
    }
}
