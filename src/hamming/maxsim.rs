//! Late interaction on codes.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::bits::{check_bits, last_mask, words};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Dtype, Field, Gpu, Kernel, Needs, Part, Spec, Tensor, params, part},
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
    rows::Rows,
};

pub(crate) const OP: &str = "hamming_maxsim";

/// The score of a document without tokens.
pub const NO_SCORE: i32 = i32::MIN;

params! {
    /// Parameters of `maxsim_nearest`.
    NearestParams {
        a_offset: u32,
        b_offset: u32,
        words: u32,
        last: u32,
        tokens: u32,
        first_document: u32,
        documents: u32,
        begin: u32,
        end: u32,
        places_offset: u32,
    }
}

params! {
    /// Parameters of `maxsim_score`.
    ScoreParams {
        tokens: u32,
        bits: u32,
        first_document: u32,
        documents: u32,
        queries: u32,
        stride: u32,
        score_offset: u32,
    }
}

/// Queries and documents as runs of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs<'a> {
    /// Bits of a token's code.
    pub bits: usize,
    /// Where each query's tokens begin, and where the last one's end: ascending from 0.
    pub queries: &'a [u32],
    /// Where each document's tokens begin, and where the last one's end: ascending from 0.
    pub documents: &'a [u32],
    /// Which query tokens count; all, where it is empty.
    pub counted: &'a [bool],
}

impl Runs<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        check_bits(OP, self.bits)?;
        for (what, bounds) in [("queries", self.queries), ("documents", self.documents)] {
            let ascending = bounds.is_sorted();
            if bounds.first() != Some(&0) || !ascending {
                return Err(Error::Argument {
                    op: OP,
                    what: what.into(),
                    expected: "ascending from 0".into(),
                    got: match bounds.first() {
                        None => "nothing".into(),
                        Some(0) => "a bound below the one before it".into(),
                        Some(first) => format!("{first} first"),
                    },
                });
            }
        }
        if !self.counted.is_empty() {
            length(OP, "counted", self.counted.len(), self.query_tokens())?;
        }
        let most = (i32::MAX as usize) / self.bits;
        let longest = self.queries.windows(2).map(|run| match run {
            [begin, end] => (end - begin) as usize,
            _ => 0,
        });
        let longest = longest.max().unwrap_or(0);
        if longest > most.min(MOST_TOKENS) {
            return Err(Error::Argument {
                op: OP,
                what: "queries".into(),
                expected: format!("at most {} tokens each", most.min(MOST_TOKENS)),
                got: longest.to_string(),
            });
        }
        Ok(())
    }

    /// Tokens of all queries.
    pub fn query_tokens(&self) -> usize {
        self.queries.last().copied().unwrap_or(0) as usize
    }

    /// Tokens of all documents.
    pub fn document_tokens(&self) -> usize {
        self.documents.last().copied().unwrap_or(0) as usize
    }

    /// Number of queries and of documents.
    pub fn counts(&self) -> [usize; 2] {
        [self.queries, self.documents].map(|bounds| bounds.len().saturating_sub(1))
    }
}

/// Score of every document for every query: the sum over the query's tokens of the best of the document's.
///
/// ```text
/// score[Q, D] = sum over i in Q of max over j in D of ⟨h_i, h_j⟩ = sum over i in Q of (bits - 2 min_j popcount(q_i xor d_j))
/// ```
///
/// Shapes: query tokens `[.., ⌈bits/32⌉]`, document tokens `[.., ⌈bits/32⌉]`, both as [`Runs`] cuts them; scores
/// `[queries, documents]`, [`NO_SCORE`] of a document without tokens; `nearest`, if asked for, `[documents, query tokens]`: the
/// document token that is best, counted over all documents, the lowest of several, [`ABSENT`](super::ABSENT) in an empty document.
/// It is where a gradient flows.
///
/// Cost: a popcount for each word of each pair of tokens. Scratch: a word for each query token of as many documents as the budget
/// allows at a time. Exact.
///
/// # Errors
/// `Argument` when lengths or bounds do not fit together; `Limit` when the query tokens exceed a binding; `Shader`, `OutOfMemory`,
/// `DeviceLost` from the device.
///
/// Source: O. Khattab and M. Zaharia, ColBERT, 2020, whose maximum of products this is, on sign codes.
pub fn maxsim(
    gpu: &Gpu,
    runs: &Runs<'_>,
    queries: &Tensor<u32>,
    documents: &Tensor<u32>,
    score: &mut Tensor<i32>,
    nearest: Option<&mut Tensor<u32>>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    let plan = plan(runs, nearest.is_some(), pass.caps())?;
    let words = words(runs.bits);
    let [n, m] = runs.counts();
    length(OP, "queries", queries.len(), runs.query_tokens() * words)?;
    length(
        OP,
        "documents",
        documents.len(),
        runs.document_tokens() * words,
    )?;
    length(OP, "score", score.len(), n * m)?;
    let mut outputs = vec![score.view_mut()];
    if let Some(nearest) = nearest {
        length(OP, "nearest", nearest.len(), m * runs.query_tokens())?;
        outputs.push(nearest.view_mut());
    }
    pass.run(&plan, &[queries.view(), documents.view()], &mut outputs)?;
    pass.submit().map(drop)
}

/// Plans [`maxsim`]. Inputs: query tokens, document tokens; outputs: scores, then the nearest tokens where they are asked for.
///
/// # Errors
/// As [`maxsim`].
pub fn plan(runs: &Runs<'_>, nearest: bool, caps: &Caps) -> Result<Plan> {
    runs.check()?;
    let [queries, documents] = runs.counts();
    let planner = Planner {
        runs,
        nearest,
        caps,
        words: words(runs.bits) as u64,
        tokens: runs.query_tokens() as u64,
    };
    let mut builder = Builder::default();
    if queries * documents > 0 {
        planner.steps(&mut builder)?;
    }
    let pairs = planner.tokens as f64 * runs.document_tokens() as f64;
    let codes = (planner.tokens as f64 + runs.document_tokens() as f64) * planner.words as f64;
    let places = if nearest {
        documents as f64 * planner.tokens as f64
    } else {
        0.0
    };
    let work = Work {
        popcounts: pairs * planner.words as f64,
        bytes: 4.0 * (codes + (queries * documents) as f64 + places),
        ..Work::default()
    };
    let plan = builder.plan(OP, "a token and document an invocation".into(), work);
    plan.check(caps)?;
    Ok(plan)
}

struct Planner<'a> {
    runs: &'a Runs<'a>,
    nearest: bool,
    caps: &'a Caps,
    words: u64,
    tokens: u64,
}

/// Tokens of one query: what one invocation may sum on every device.
const MOST_TOKENS: usize = 60_000;

/// Groups of 64 invocations one dispatch may have: their invocations are counted in 32 bits.
const MOST_GROUPS: u64 = 1 << 25;

impl Planner<'_> {
    fn steps(&self, builder: &mut Builder) -> Result<()> {
        let documents = self.runs.counts()[1] as u64;
        let bounds = builder.add_table(self.runs.documents.to_vec());
        let starts = builder.add_table(self.runs.queries.to_vec());
        let counted = match self.runs.counted {
            [] => vec![1; self.tokens.max(1) as usize],
            counted => counted.iter().map(|counted| (*counted).into()).collect(),
        };
        let counted = builder.add_table(counted);
        let (mut first, mut windows) = (0, Vec::new());
        while first < documents {
            let count = self.window(first)?;
            windows.push(first..first + count);
            first += count;
        }
        let widest = windows.iter().map(|window| window.end - window.start);
        let least = builder.add_scratch(4 * self.tokens * widest.max().unwrap_or(0));
        for window in windows {
            self.nearest_steps(builder, [bounds, least], &window);
            self.score_step(builder, [least, starts, counted, bounds], &window);
        }
        Ok(())
    }

    fn bound(&self, document: u64) -> u64 {
        self.runs
            .documents
            .get(document as usize)
            .copied()
            .unwrap_or(0)
            .into()
    }

    /// How many documents from one on have their tokens, and what is kept of them, in one binding each.
    fn window(&self, first: u64) -> Result<u64> {
        let room = self.caps.binding_bytes.saturating_sub(ALIGN) / 4;
        let kept = room.min(self.caps.scratch_bytes / 8).min(64 * MOST_GROUPS);
        let documents = self.runs.counts()[1] as u64;
        let fits = |count: u64| {
            let tokens = self.bound(first + count) - self.bound(first);
            count * self.tokens <= kept && tokens * self.words <= room
        };
        let queries = self.tokens * self.words;
        if !fits(1) || queries > room {
            let tokens = self.bound(first + 1) - self.bound(first);
            return Err(Error::Limit {
                what: "words in one binding, for all query tokens and for those of one document,"
                    .into(),
                needed: queries.max(tokens * self.words).max(self.tokens),
                available: room.min(kept),
                remedy: "score fewer queries at a time",
            });
        }
        let (mut low, mut high) = (1, documents - first);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if fits(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    fn codes(&self, slot: Slot) -> Rows {
        Rows {
            slot,
            dtype: Dtype::U32,
            stride: self.words as usize,
        }
    }

    /// Distances, a run of each document's tokens at a time where a dispatch may not see all.
    fn nearest_steps(
        &self,
        builder: &mut Builder,
        [bounds, least]: [Slot; 2],
        window: &std::ops::Range<u64>,
    ) {
        let count = window.end - window.start;
        let lens = window.clone().map(|d| self.bound(d + 1) - self.bound(d));
        let longest = lens.max().unwrap_or(0);
        let invocations = count * self.tokens;
        let ms = |tokens: u64| {
            invocations as f64 * tokens as f64 * 8.0 * (self.words + 2) as f64
                / (self.caps.gflops * 1e6)
        };
        let by_loops = self.caps.loop_iterations / 16 * 15 / (self.words + 5) * 4;
        let by_time = (longest as f64 * STEP_MS / ms(longest).max(1e-9)) as u64;
        let run = by_loops.min(by_time).clamp(4, longest.max(4)) / 4 * 4;
        let (a, a_offset) = self
            .codes(Slot::Input(0))
            .bind(&(0..self.tokens.max(1)), false);
        let span = self.bound(window.start)..self.bound(window.end);
        // Where no document of the window has a token, nothing is read: any binding does.
        let (b, b_offset) = match span.is_empty() {
            true => (a.clone(), 0),
            false => self.codes(Slot::Input(1)).bind(&span, false),
        };
        let places = Rows {
            slot: Slot::Output(1),
            dtype: Dtype::U32,
            stride: self.tokens as usize,
        };
        let (places, places_offset) = places.bind(window, true);
        let places_offset = places_offset.wrapping_add((window.start * self.tokens) as u32);
        let mut begin = 0;
        // One dispatch at least: it says of empty documents that they have none.
        while begin == 0 || begin < longest {
            let params = NearestParams {
                a_offset,
                b_offset,
                words: self.words as u32,
                last: last_mask(self.runs.bits),
                tokens: self.tokens as u32,
                first_document: window.start as u32,
                documents: count as u32,
                begin: begin as u32,
                end: (begin + run).min(longest) as u32,
                places_offset,
            };
            let mut bind = vec![
                a.clone(),
                b.clone(),
                whole(bounds, self.runs.documents.len() as u64, false),
                whole(least, invocations, true),
            ];
            if self.nearest {
                bind.push(places.clone());
            }
            if self.tokens > 0 {
                let parts = match self.nearest {
                    true => part!("hamming/maxsim_places.wgsl"),
                    false => part!("hamming/maxsim_places_none.wgsl"),
                };
                builder.steps.push(Step {
                    kernel: kernel(
                        "hamming/maxsim_nearest",
                        &[part!("hamming/maxsim_nearest.wgsl"), parts],
                        NearestParams::FIELDS,
                    ),
                    bind,
                    params: bytes_of(&params).to_vec(),
                    groups: invocations.div_ceil(64),
                    predicted_ms: ms(run.min(longest)),
                });
            }
            begin += run;
        }
    }

    fn score_step(
        &self,
        builder: &mut Builder,
        [least, starts, counted, bounds]: [Slot; 4],
        window: &std::ops::Range<u64>,
    ) {
        let [queries, documents] = self.runs.counts().map(|n| n as u64);
        let count = window.end - window.start;
        let params = ScoreParams {
            tokens: self.tokens as u32,
            bits: self.runs.bits as u32,
            first_document: window.start as u32,
            documents: count as u32,
            queries: queries as u32,
            stride: documents as u32,
            score_offset: 0,
        };
        builder.steps.push(Step {
            kernel: kernel(
                "hamming/maxsim_score",
                &[part!("hamming/maxsim_score.wgsl")],
                ScoreParams::FIELDS,
            ),
            bind: vec![
                whole(least, (count * self.tokens).max(1), false),
                whole(starts, queries + 1, false),
                whole(counted, self.tokens.max(1), false),
                whole(bounds, documents + 1, false),
                whole(Slot::Output(0), queries * documents, true),
            ],
            params: bytes_of(&params).to_vec(),
            groups: (queries * count).div_ceil(64),
            predicted_ms: (count * self.tokens) as f64 * 8.0 / (self.caps.gflops * 1e6),
        });
    }
}

/// The first words of a slot.
fn whole(slot: Slot, words: u64, write: bool) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words,
        write,
    }
}

fn kernel(name: &'static str, parts: &[Part], params: &'static [Field]) -> Arc<Kernel> {
    Arc::new(Kernel {
        name,
        parts: parts
            .iter()
            .copied()
            .chain([part!("common/grid.wgsl")])
            .collect(),
        spec: Spec::default(),
        needs: Needs::default(),
        params,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
