//! Named points at which a test can kill this process; nothing of it is in a build without the
//! `failpoints` feature.
//!
//! `FAILPOINTS='commit.before-commit=return'` in the environment makes the process die there;
//! `3*off->return` lets the point pass three times first, and `pause` or `sleep(ms)` hold it up. At `job.created`
//! nothing dies: `return` takes the answer to the creation of a Job for lost.

/// Reads `FAILPOINTS`; the points stay set until the answer is dropped.
pub fn scenario() -> fail::FailScenario<'static> {
    fail::FailScenario::setup()
}

/// Ends this process by SIGKILL: no destructor, no flush, no farewell to a server.
pub fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal is on its way; nothing may happen in the meantime.
    loop {
        std::thread::park();
    }
}
