//! The loop a worker runs: pull an invocation, run the function, answer.
