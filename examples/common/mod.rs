//! What the larger examples share.
use std::{io::IsTerminal, process::ExitCode};

use indicatif::ProgressBar;
use subquad::{case::Failure, cli::bench::progress};

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
