//! What the training examples share.
use std::{io::IsTerminal, process::ExitCode};

use indicatif::ProgressBar;
use subquad::{case::Failure, cli::bench::progress};

/// Adam (Kingma and Ba, 2015) over one list of parameters.
pub struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    step: i32,
}

impl Adam {
    pub fn new(len: usize) -> Adam {
        Adam {
            mean: vec![0.0; len],
            square: vec![0.0; len],
            step: 0,
        }
    }

    pub fn update(&mut self, rate: f32, parameters: &mut [f32], gradient: &[f32]) {
        let (beta1, beta2) = (0.9f32, 0.99f32);
        self.step += 1;
        let unbias = |beta: f32| 1.0 - beta.powi(self.step);
        let (unbias1, unbias2) = (unbias(beta1), unbias(beta2));
        for (((x, g), m), v) in parameters
            .iter_mut()
            .zip(gradient)
            .zip(&mut self.mean)
            .zip(&mut self.square)
        {
            *m += (1.0 - beta1) * (g - *m);
            *v += (1.0 - beta2) * (g * g - *v);
            *x -= rate * (*m / unbias1) / ((*v / unbias2).sqrt() + 1e-8);
        }
    }
}

/// A bar on a terminal, otherwise a plain line now and then.
pub struct Progress {
    bar: ProgressBar,
    len: u64,
    plain: bool,
}

impl Progress {
    pub fn new(len: usize) -> Progress {
        Progress {
            bar: progress(len as u64),
            len: len as u64,
            plain: !std::io::stderr().is_terminal(),
        }
    }

    pub fn tell(&self, done: usize, message: String) {
        let done = done as u64;
        if !self.plain {
            self.bar.set_position(done);
            self.bar.set_message(message);
        } else if done.is_multiple_of((self.len / 20).max(1)) || done == self.len {
            eprintln!("{done}/{} {message}", self.len);
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The exit status: 1 where a promise was missed, 2 where something went wrong.
pub fn exit(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{failure}");
    ExitCode::from(if matches!(failure, Failure::Missed(_)) {
        1
    } else {
        2
    })
}
