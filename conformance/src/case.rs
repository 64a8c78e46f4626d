//! A case, and the trials it becomes.

use std::cell::Cell;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Failed, Trial};

use crate::peers::{Maker, Peers, Programs};
use crate::process::locate;
use crate::{Lab, Outcome};

/// Cases that need both cores run one at a time.
static HEAVY: Mutex<()> = Mutex::new(());

/// What a case starts, which decides over which programs it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    Nothing,
    Pair,
    Frps,
    Frpc,
}

type Run = Arc<dyn Fn(&Lab) -> Outcome + Send + Sync>;

/// One thing to find out.
#[must_use]
pub struct Case {
    name: String,
    subject: Subject,
    run: Run,
    /// Oldest minor version it makes sense with, if it runs with old versions at all.
    since: Option<u16>,
    /// Why it takes long.
    long: Option<&'static str>,
    heavy: bool,
    signals: bool,
    /// Programs of somebody else that take part.
    needs: Vec<&'static str>,
    /// Why upstream is not asked.
    ours_only: Option<&'static str>,
    /// Why upstream's server is not asked, while its client is.
    our_frps: Option<&'static str>,
    /// Why upstream's client is not asked, while its server is.
    our_frpc: Option<&'static str>,
    /// Why it cannot run on this machine.
    impossible: Option<String>,
}

impl Case {
    fn new(name: String, subject: Subject, run: Run) -> Self {
        Self {
            name,
            subject,
            run,
            since: None,
            long: None,
            heavy: false,
            signals: false,
            needs: Vec::new(),
            ours_only: None,
            our_frps: None,
            our_frpc: None,
            impossible: None,
        }
    }

    /// A case that starts no program.
    pub fn alone<F>(name: impl Into<String>, run: F) -> Self
    where
        F: AsyncFn(&Lab) -> Outcome + Send + Sync + 'static,
    {
        Self::new(name.into(), Subject::Nothing, blocking(run))
    }

    /// A case for every pairing of programs.
    pub fn pair<F>(name: impl Into<String>, run: F) -> Self
    where
        F: AsyncFn(&Lab) -> Outcome + Send + Sync + 'static,
    {
        Self::new(name.into(), Subject::Pair, blocking(run))
    }

    /// A case for every frps; the client is the case itself, or of the same maker.
    pub fn frps<F>(name: impl Into<String>, run: F) -> Self
    where
        F: AsyncFn(&Lab) -> Outcome + Send + Sync + 'static,
    {
        Self::new(name.into(), Subject::Frps, blocking(run))
    }

    /// A case for every frpc; the server is the case itself.
    pub fn frpc<F>(name: impl Into<String>, run: F) -> Self
    where
        F: AsyncFn(&Lab) -> Outcome + Send + Sync + 'static,
    {
        Self::new(name.into(), Subject::Frpc, blocking(run))
    }

    /// Also with old versions, from `v0.MINOR` on.
    pub fn since(mut self, minor: u16) -> Self {
        self.since = Some(minor);
        self
    }

    /// Runs only when minutes do not matter.
    pub fn long(mut self, why: &'static str) -> Self {
        self.long = Some(why);
        self
    }

    /// Needs the machine for itself.
    pub fn heavy(mut self) -> Self {
        self.heavy = true;
        self
    }

    /// Sends signals to programs.
    pub fn signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Runs where this program is installed.
    pub fn needs(mut self, program: &'static str) -> Self {
        self.needs.push(program);
        self
    }

    /// Upstream is known to fail.
    pub fn ours_only(mut self, why: &'static str) -> Self {
        self.ours_only = Some(why);
        self
    }

    /// Only our server can do it, with whatever client; upstream's is skipped with this reason.
    pub fn our_frps(mut self, why: &'static str) -> Self {
        self.our_frps = Some(why);
        self
    }

    /// Only our client can do it, with whatever server; upstream's is skipped with this reason.
    pub fn our_frpc(mut self, why: &'static str) -> Self {
        self.our_frpc = Some(why);
        self
    }

    /// Cannot run on this machine, if there is a reason.
    pub fn impossible(mut self, why: Option<String>) -> Self {
        self.impossible = why;
        self
    }

    /// The programs it runs with; `None` stands for upstream's, not found.
    fn pairings(&self, peers: &Peers) -> Vec<Option<(Programs, Programs)>> {
        let ours = || Some(peers.ours.clone());
        let go = || peers.go.clone();
        let pair = |frps: Option<Programs>, frpc: Option<Programs>| Some((frps?, frpc?));
        if self.subject == Subject::Nothing {
            return vec![pair(ours(), ours())];
        }
        if self.subject != Subject::Pair || self.ours_only.is_some() {
            return vec![pair(ours(), ours()), pair(go(), go())];
        }
        let mut pairings = vec![
            pair(ours(), ours()),
            pair(ours(), go()),
            pair(go(), ours()),
            pair(go(), go()),
        ];
        for old in &peers.old {
            if matches!((old.maker, self.since), (Maker::Old(minor, _), Some(since)) if minor >= since)
            {
                pairings.push(pair(ours(), Some(old.clone())));
                pairings.push(pair(Some(old.clone()), ours()));
            }
        }
        pairings
    }

    /// The name of the trial of a pairing at this place of [`Case::pairings`].
    fn trial_name(&self, place: usize, pairing: Option<&(Programs, Programs)>) -> String {
        let missing = [Maker::Ours, Maker::Go];
        let (frps, frpc) = match (pairing, self.subject) {
            (Some((frps, frpc)), _) => (frps.maker, frpc.maker),
            (None, Subject::Pair) if self.ours_only.is_none() => {
                (missing[place / 2 % 2], missing[place % 2])
            }
            (None, _) => (Maker::Go, Maker::Go),
        };
        match self.subject {
            Subject::Nothing => self.name.clone(),
            Subject::Pair => format!("{} [{frps}-{frpc}]", self.name),
            Subject::Frps => format!("{} [frps {frps}]", self.name),
            Subject::Frpc => format!("{} [frpc {frpc}]", self.name),
        }
    }

    /// Why a trial cannot run now.
    fn obstacle(&self, pairing: Option<&(Programs, Programs)>, long: bool) -> Option<String> {
        let Some((frps, frpc)) = pairing else {
            return Some("no Go peer found, see CONTRIBUTING".into());
        };
        if self.signals && !cfg!(unix) {
            return Some("no signals on this system".into());
        }
        if let Some(program) = self.needs.iter().find(|program| !is_installed(program)) {
            return Some(format!("{program} is not installed"));
        }
        if let Some(why) = &self.impossible {
            return Some(why.clone());
        }
        if let Some(why) = self.our_frpc
            && frpc.maker != Maker::Ours
        {
            return Some(why.into());
        }
        match (self.ours_only.or(self.our_frps), self.long) {
            (Some(why), _) if frps.maker != Maker::Ours => Some(why.into()),
            (_, Some(why)) if !long => Some(format!("{why}; FRP_CONFORMANCE_LONG=1 runs it")),
            _ => None,
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut paths = env::split_paths(&path).map(|directory| directory.join(program));
    locate(program).is_file() || paths.any(|path| path.is_file())
}

/// All cases.
#[derive(Default)]
pub struct Suite(Vec<Case>);

impl Suite {
    /// Adds cases.
    pub fn extend(&mut self, cases: impl IntoIterator<Item = Case>) {
        self.0.extend(cases);
    }

    /// One trial for each case and pairing; those that cannot run are ignored, with the reason as their kind.
    pub fn trials(self, peers: &Peers, long: bool) -> Vec<Trial> {
        set_hook(Box::new(|info| PANIC.set(info.to_string())));
        let mut trials = Vec::new();
        for case in self.0 {
            for (place, pairing) in case.pairings(peers).into_iter().enumerate() {
                let name = case.trial_name(place, pairing.as_ref());
                let obstacle = case.obstacle(pairing.as_ref(), long);
                let (run, heavy) = (case.run.clone(), case.heavy);
                let trial = Trial::test(name, move || match pairing {
                    Some((frps, frpc)) => {
                        let _alone =
                            heavy.then(|| HEAVY.lock().unwrap_or_else(PoisonError::into_inner));
                        try_run(
                            &run,
                            &Lab::new(frps, frpc, long).map_err(|e| e.to_string())?,
                        )
                    }
                    None => Err("no Go peer found".into()),
                });
                trials.push(match obstacle {
                    Some(why) => trial.with_ignored_flag(true).with_kind(why),
                    None => trial,
                });
            }
        }
        trials
    }
}

/// The case on a runtime of its own.
fn blocking<F>(run: F) -> Run
where
    F: AsyncFn(&Lab) -> Outcome + Send + Sync + 'static,
{
    Arc::new(move |lab| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(run(lab))
    })
}

thread_local! {
    /// What the last panic of this thread said, and where: reported with the case instead of at once.
    static PANIC: Cell<String> = const { Cell::new(String::new()) };
}

fn try_run(run: &Run, lab: &Lab) -> Result<(), Failed> {
    let why = match catch_unwind(AssertUnwindSafe(|| run(lab))) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure.to_string(),
        Err(_) => PANIC.take(),
    };
    Err(format!("{why}\n{}", lab.report()).into())
}
