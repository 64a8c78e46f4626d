//! What the process holds.

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::clock::real_pause;

/// Counts the bytes that are allocated, which tells to the byte what is left behind. Resident memory also tells how the
/// system's allocator gets on with it, and moves by megabytes for no reason of ours; but only there is seen what
/// C libraries allocate.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// What the heap may grow by from the end of the warm-up to the end of the day, thousands of connections later: less than
/// a byte for each.
const HEAP_MARGIN: usize = 4 * 1024;
/// The same of resident memory, for what the heap's count does not see: some hundred bytes for each connection.
const RESIDENT_MARGIN: usize = 4 * 1024 * 1024;
/// What has not changed for so long, in real time, while the clock stands still, changes no more.
const CALM: Duration = Duration::from_millis(20);
/// Looks within that time.
const LOOKS: u32 = 4;

/// Open descriptors of this process, by the system's account.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What the process holds at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Bytes.
    heap: usize,
    /// Bytes.
    resident: usize,
    pub(crate) descriptors: usize,
    tasks: usize,
}

impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.unwrap().trim().trim_end_matches(" kB");
        let resident = resident.parse::<usize>().unwrap() * 1024;
        drop(status);
        Self {
            heap: HEAP.allocated(),
            resident,
            descriptors: descriptors(),
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }

    /// What is held when everything that goes on without the clock has come to its end.
    pub(crate) async fn settled() -> Self {
        let mut held = Self::now();
        let mut calm = 0;
        while calm < LOOKS {
            real_pause(CALM / LOOKS).await;
            let now = Self::now();
            let same = now.heap == held.heap
                && now.descriptors == held.descriptors
                && now.tasks == held.tasks;
            calm = if same { calm + 1 } else { 0 };
            held = now;
        }
        held
    }

    /// Waits until there are so few descriptors and tasks again.
    pub(crate) async fn comes_back(self) {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        while tasks() > self.tasks || descriptors() > self.descriptors {
            yield_now().await;
        }
    }

    /// Panics if more is held than `before`.
    pub(crate) fn assert_no_more_than(self, before: Self) {
        let both = format!("{before:?} before, {self:?} now");
        assert_eq!(self.descriptors, before.descriptors, "descriptors: {both}");
        assert_eq!(self.tasks, before.tasks, "tasks: {both}");
        assert!(self.heap <= before.heap + HEAP_MARGIN, "heap: {both}");
        assert!(
            self.resident <= before.resident + RESIDENT_MARGIN,
            "resident memory: {both}"
        );
    }
}
