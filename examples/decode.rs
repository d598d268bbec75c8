//! Streaming decode: a prompt in one call, then token after token through a state of constant size.
use subquad::{
    Gpu, Result, Select,
    gpu::Dtype,
    linear::{self, Inputs, Layout, Options, Outputs, Shape, slopes_opennlplab},
};

fn main() -> Result<()> {
    let gpu = Gpu::open(&Select::from_env())?;
    let (heads, width) = (8, 64);
    let shape = |tokens| Shape {
        batch: 1,
        tokens,
        heads,
        kv_heads: heads,
        key: width,
        value: width,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    };
    let options = Options::lightning();
    let slopes = slopes_opennlplab(heads, 0, 12)?;
    let log_decay = gpu.upload(&slopes.iter().map(|slope| -slope).collect::<Vec<_>>())?;

    // The prompt, and the state after it.
    let prompt = shape(1000);
    let x = gpu.upload(
        &(0..prompt.key_len())
            .map(|n| (n as f32 * 0.01).sin() * 0.1)
            .collect::<Vec<_>>(),
    )?;
    let mut o = gpu.zeros(prompt.output_len())?;
    let mut state = gpu.zeros(prompt.state_len())?;
    let inputs = Inputs {
        log_decay: Some(&log_decay),
        ..Inputs::new(&x, &x, &x)
    };
    linear::forward(
        &gpu,
        &prompt,
        &options,
        &inputs,
        Outputs::new(&mut o).with_state(&mut state),
    )?;

    // Each output is the next input; the state is updated in place.
    let one = shape(1);
    let last = o
        .download()?
        .split_off(prompt.output_len() - one.output_len());
    let mut token = gpu.upload(&last)?;
    for n in 0..5 {
        let mut next = gpu.zeros(one.output_len())?;
        let inputs = Inputs {
            log_decay: Some(&log_decay),
            ..Inputs::new(&token, &token, &token)
        };
        linear::step(&gpu, &one, &options, &inputs, &mut state, None, &mut next)?;
        println!(
            "token {}: first value {:+.6}",
            1000 + n,
            next.download()?[0]
        );
        token = next;
    }
    Ok(())
}
