//! The threads on which futures run.

use tokio::runtime::Builder;

/// The stack of each thread, in bytes: statements of SQL are planned by calls that go as deep as they nest. It is memory only where it
/// is used.
const STACK: usize = 16 << 20;

/// A runtime of several threads, still to be named and built.
pub fn builder() -> Builder {
    let mut builder = Builder::new_multi_thread();
    builder.thread_stack_size(STACK).enable_all();
    builder
}
