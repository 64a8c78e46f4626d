//! Statistics that outlive the program (`trafficHistory.path`): a small file, written now and then and at the stop, read at
//! the start. Whatever is wrong with it, the server starts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveDate;
use frp_proto::disk::{Draft, beside};
use serde::{Deserialize, Serialize};

use super::{History, Stats};

/// How often the file is written: so much a crash may lose.
const SAVE_PERIOD: Duration = Duration::from_mins(1);
/// Bytes of the file: more than all proxies that are remembered can need.
const MAX_SIZE: u64 = 256 * 1024 * 1024;
/// The only form there is.
const VERSION: u32 = 1;

/// All that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    version: u32,
    /// Of the first slots.
    pub(super) day: NaiveDate,
    /// Unix time.
    pub(super) saved: i64,
    pub(super) traffic: Slots,
    pub(super) proxies: Vec<Kept>,
}

impl Snapshot {
    pub(super) fn new(day: NaiveDate, saved: i64, traffic: Slots, proxies: Vec<Kept>) -> Self {
        Self {
            version: VERSION,
            day,
            saved,
            traffic,
            proxies,
        }
    }

    /// Whether both say the same, whenever they were made.
    fn says(&self, other: &Self) -> bool {
        self.day == other.day && self.traffic == other.traffic && self.proxies == other.proxies
    }
}

/// Bytes a day, the latest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slots {
    pub(super) incoming: History,
    pub(super) outgoing: History,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) user: String,
    pub(super) client_id: String,
    pub(super) traffic: Slots,
    /// Unix time.
    pub(super) started: i64,
    /// Unix time; `None` if never.
    pub(super) closed: Option<i64>,
}

/// The file.
pub(crate) struct Keeper {
    path: PathBuf,
    stats: Stats,
    /// What is in the file, as far as it is ours.
    last: Mutex<Option<Snapshot>>,
}

impl Keeper {
    /// Takes over what the file has. A file that cannot be used is kept under another name; if even that fails nothing is
    /// written, and `None` says so.
    pub(crate) fn open(path: PathBuf, stats: &Stats) -> Option<Arc<Self>> {
        let last = match read(&path) {
            Ok(snapshot) => snapshot,
            Err(e) => {
                let aside = beside(&path, ".damaged");
                let (shown, aside_shown) = (path.display(), aside.display());
                if let Err(e2) = fs::rename(&path, &aside) {
                    tracing::warn!(
                        "trafficHistory.path: {shown}: {e}; it cannot be set aside, so that no history is kept: {e2}"
                    );
                    return None;
                }
                tracing::warn!(
                    "trafficHistory.path: {shown}: {e}; it is now {aside_shown}, history begins anew"
                );
                None
            }
        };
        if let Some(snapshot) = &last {
            stats.restore(snapshot);
        }
        Some(Arc::new(Self {
            path,
            stats: stats.clone(),
            last: Mutex::new(last),
        }))
    }

    /// Saves in every period. Runs until dropped; a write that is under way then goes on.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut told = false;
        loop {
            tokio::time::sleep(SAVE_PERIOD).await;
            let keeper = self.clone();
            let saved = tokio::task::spawn_blocking(move || keeper.save()).await;
            if let Ok(Err(e)) = saved
                && !std::mem::replace(&mut told, true)
            {
                tracing::warn!("trafficHistory.path: {}: {e}", self.path.display());
            }
        }
    }

    /// Writes the file if it has become different. Blocks.
    pub(crate) fn save(&self) -> io::Result<()> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = self.stats.snapshot() else {
            return Ok(());
        };
        if last.as_ref().is_some_and(|last| last.says(&snapshot)) {
            return Ok(());
        }
        Draft::write(&self.path, &serde_json::to_vec(&snapshot)?)?.commit()?;
        *last = Some(snapshot);
        Ok(())
    }
}

/// What every form has.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// What the file says; `None` without one.
fn read(path: &Path) -> Result<Option<Snapshot>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let mut text = Vec::new();
    let read = file.take(MAX_SIZE + 1).read_to_end(&mut text);
    read.map_err(|e| e.to_string())?;
    if text.len() as u64 > MAX_SIZE {
        return Err(format!("larger than {MAX_SIZE} bytes"));
    }
    let head: Head = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    if head.version != VERSION {
        return Err(format!("version {} is not known", head.version));
    }
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::{Owner, Spec};
    use super::*;

    fn online(
        stats: &Stats,
        kind: &'static str,
    ) -> (Arc<super::super::ProxyStats>, super::super::Online) {
        let proxy = stats.proxy(&"p".into(), kind);
        let owner = Owner {
            user: "alice".into(),
            client_id: "c1".into(),
        };
        let online = stats.online(&proxy, || (owner, Spec::default()));
        (proxy, online)
    }

    #[test]
    fn figures_outlive_the_program() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let first = Stats::new(true);
        let keeper = Keeper::open(path.clone(), &first).unwrap();
        let (proxy, _online) = online(&first, "tcp");
        proxy.traffic_in(10);
        proxy.traffic_out(20);
        keeper.save().unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        keeper.save().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);

        let second = Stats::new(true);
        let keeper = Keeper::open(path.clone(), &second).unwrap();
        let view = second.find("p").unwrap();
        assert_eq!((view.traffic_in[0], view.traffic_out[0]), (10, 20));
        assert_eq!((view.kind, view.owner.user.as_str()), ("tcp", "alice"));
        // It was online when it was saved, and is not now.
        assert!(view.online.is_none() && view.closed.is_some());
        let summary = second.summary();
        assert_eq!((summary.traffic_in, summary.traffic_out), (10, 20));
        assert!(summary.kinds.is_empty());
        // The proxy comes back and goes on counting.
        let (proxy, _online) = online(&second, "tcp");
        proxy.traffic_in(1);
        assert_eq!(second.find("p").unwrap().traffic_in[0], 11);
        assert_eq!(second.summary().traffic_in, 11);
        keeper.save().unwrap();
        let third = Stats::new(true);
        Keeper::open(path, &third).unwrap();
        assert_eq!(third.find("p").unwrap().traffic_in[0], 11);
        // One of another type starts anew.
        let (_, _online) = online(&third, "udp");
        assert_eq!(third.find("p").unwrap().traffic_in[0], 0);
    }

    #[test]
    fn days_that_passed_meanwhile_move_the_slots() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        let day = chrono::Local::now().date_naive() - chrono::Days::new(2);
        let slots = Slots {
            incoming: [7, 1, 0, 0, 0, 0, 9],
            outgoing: [0; 7],
        };
        let kept = Kept {
            name: "p".into(),
            kind: "http".into(),
            user: String::new(),
            client_id: "c".into(),
            traffic: slots,
            started: 1_700_000_000,
            closed: None,
        };
        let mut unknown = kept.clone();
        unknown.name = "q".into();
        unknown.kind = "carrier pigeon".into();
        let snapshot = Snapshot::new(day, 1_800_000_000, slots, vec![kept, unknown]);
        fs::write(&path, serde_json::to_vec(&snapshot).unwrap()).unwrap();
        let stats = Stats::new(true);
        Keeper::open(path, &stats).unwrap();
        let view = stats.find("p").unwrap();
        assert_eq!(view.traffic_in, [0, 0, 7, 1, 0, 0, 0]);
        assert_eq!(view.closed.unwrap().timestamp(), 1_800_000_000);
        assert!(stats.find("q").is_none());
    }

    #[test]
    fn a_damaged_file_is_kept_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.json");
        for content in ["", "{", "{\"version\":2}", "{\"version\":1}", "[]"] {
            fs::write(&path, content).unwrap();
            let stats = Stats::new(true);
            let keeper = Keeper::open(path.clone(), &stats).unwrap();
            assert!(stats.proxies().is_empty() && !path.exists());
            let aside = fs::read_to_string(beside(&path, ".damaged")).unwrap();
            assert_eq!(aside, content);
            keeper.save().unwrap();
            assert!(read(&path).unwrap().is_some());
        }
    }
}
