//! What a program gives back while it has nothing to do: memory that the allocator keeps for later, and the mapping of code.
//!
//! Around each page of code that runs the kernel maps up to 64 KiB of it, so that after its start most of a program's code is
//! resident, though little of it runs again. Those pages count when the system looks for a process to end because memory is
//! short, and pages that are mapped are the last ones it takes back. Unmapped, they stay in the page cache while there is
//! room, and come back at the price of a minor fault.
#![expect(
    unsafe_code,
    reason = "the one module of the workspace that asks the system for what has no safe wrapper"
)]

use std::ffi::c_void;
use std::ops::Range;
use std::time::Duration;

use rustix::mm::{Advice, madvise};
use rustix::time::{ClockId, clock_gettime};

/// Between two looks at a program that works.
const LOOK: Duration = Duration::from_millis(250);
/// Between two looks at one that has rested for long.
const SELDOM: Duration = Duration::from_secs(4);
/// A program rests as long as it uses less than this part of a core.
const BUSY_SHARE: u32 = 50;
/// After so much CPU time there is something to give back again. What comes back costs about 1/30 of it.
const USED: Duration = Duration::from_millis(10);

/// Gives back whenever the program rests after it has worked. Runs until it is dropped.
pub(super) async fn give_back_at_rest() {
    let (mut pause, mut given_back) = (LOOK, None);
    loop {
        let before = cpu_time();
        tokio::time::sleep(pause).await;
        let now = cpu_time();
        if now.saturating_sub(before) >= pause / BUSY_SHARE {
            pause = LOOK;
            continue;
        }
        pause = (pause * 2).min(SELDOM);
        if given_back.is_none_or(|then| now.saturating_sub(then) >= USED) {
            give_back();
            given_back = Some(cpu_time());
        }
    }
}

/// CPU time of the process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.try_into().unwrap_or_default()
}

fn give_back() {
    unmap_code();
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the allocator's own locks, and touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn unmap_code() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for range in unchanged_images(&smaps) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(range.start);
        // SAFETY: the range belongs to a file's private mapping that cannot be written and of which no page differs from the
        // file, so that the next access reads again what is dropped here. It is still that mapping: nothing in these
        // programs unloads a library. What is locked into memory stays.
        let _ = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
    }
}

/// One entry of `proc_pid_smaps(5)`.
struct Mapping<'a> {
    range: Range<usize>,
    permissions: &'a str,
    path: &'a str,
    /// No page of it differs from the file.
    unchanged: bool,
}

impl<'a> Mapping<'a> {
    /// From a line such as `55d0-55e0 r-xp 00001000 fe:00 7  /bin/frps`.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let address = |hex| usize::from_str_radix(hex, 16).ok();
        Some(Self {
            range: address(start)?..address(end)?,
            permissions: words.next()?,
            path: line.find(" /").map_or("", |at| &line[at..]),
            unchanged: false,
        })
    }

    /// Whether this is the next part of the file that `self` is part of.
    fn goes_on(&self, next: &Self) -> bool {
        self.range.end == next.range.start && self.path == next.path
    }
}

/// Addresses of the code and constants of the program and its libraries: of files that are mapped in one piece, with code in
/// it, the parts that are private, cannot be written, and are as in the file, which they are not where a debugger has put a
/// breakpoint.
fn unchanged_images(smaps: &str) -> Vec<Range<usize>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        if let Some(mapping) = Mapping::parse(line) {
            mappings.push(mapping);
        } else if let (Some(last), Some(kib)) =
            (mappings.last_mut(), line.strip_prefix("Anonymous:"))
        {
            last.unchanged = kib.trim() == "0 kB";
        }
    }
    let images = mappings.chunk_by(Mapping::goes_on);
    let code = images.filter(|image| {
        image
            .iter()
            .any(|m| m.permissions == "r-xp" && !m.path.is_empty())
    });
    code.flatten()
        .filter(|m| m.unchanged && matches!(m.permissions, "r-xp" | "r--p"))
        .map(|m| m.range.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_given_back() {
        let mapping = |head: &str, anonymous: u32| {
            format!(
                "{head}\nSize:  8 kB\nRss:  4 kB\nAnonymous:  {anonymous} kB\nLocked:  0 kB\nVmFlags: rd ex mr\n"
            )
        };
        let smaps = [
            mapping("1000-2000 r--p 00000000 fe:00 7   /bin/frps", 0),
            mapping("2000-4000 r-xp 00001000 fe:00 7   /bin/frps", 0),
            mapping("4000-5000 r--p 00003000 fe:00 7   /bin/frps", 4),
            mapping("5000-6000 rw-p 00004000 fe:00 7   /bin/frps", 0),
            mapping("6000-7000 r-xp 00000000 fe:00 8   /lib/a breakpoint.so", 4),
            mapping("7000-8000 r-xs 00000000 fe:00 9   /lib/shared.so", 0),
            mapping("8000-9000 rwxp 00000000 fe:00 10  /lib/writable.so", 0),
            mapping("9000-a000 r--p 00000000 fe:00 7   /bin/frps", 0),
            mapping("b000-c000 r-xp 00000000 00:00 0", 0),
            mapping("c000-d000 r-xp 00000000 00:00 0   [vdso]", 0),
            mapping(
                "7f0000000000-7f0000003000 r-xp 00001000 fe:00 10  /lib/libc.so.6",
                0,
            ),
        ];
        assert_eq!(
            unchanged_images(&smaps.concat()),
            [
                0x1000..0x2000,
                0x2000..0x4000,
                0x7f00_0000_0000..0x7f00_0000_3000
            ]
        );
        assert!(unchanged_images("garbage\nAnonymous: 0 kB\n- r-xp /x\n1-2\n").is_empty());
    }

    #[test]
    fn the_program_goes_on() {
        let kept: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        for _ in 0..3 {
            give_back();
            assert_eq!(kept.concat().len(), 2890);
        }
    }
}
