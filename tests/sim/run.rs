//! One run: parties are chosen, time passes, calls happen and go wrong, as a seed has it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use asof::base::SnapshotId;
use asof::codec::chunker::Sizes;
use asof::codec::{hash::sha256, random};
use asof::format::config::Parameters;
use asof::format::names;
use asof::repo::rules::Rules;
use asof::repo::{LocalOptions, Shelf};
use asof::source::meta;
use asof::store::Call;

use crate::oracle::{Oracle, dir_in};
use crate::party::{Collect, Deed, Desk, Keys, Outcome, Pass, Role, copy_dir, perform};
use crate::quiet;
use crate::rng::Rng;
use crate::stream;
use crate::tree::Tree;
use crate::world::{Fate, OBSERVER, Party, Rights, SimStore, Temper, Then, Waiting, World};

mod deeds;
mod script;

pub use script::Act;

pub const HOUR: i64 = 3600;
pub const GRACE: i64 = 100 * HOUR;
pub const SKEW: i64 = HOUR;

/// What is asked of a run, beside its seed.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How many things the parties do in all.
    pub deeds: usize,
    pub rules: Rules,
    pub collect: Option<Collect>,
    /// How many of a thousand calls go wrong; drawn if none.
    pub trouble: Option<u32>,
    /// How many of a thousand calls are slept at; drawn if none.
    pub drowsy: Option<u32>,
    pub encrypted: bool,
    /// Whether a writer that is not trusted claims what is not so.
    pub liar: bool,
    pub bias: Option<Bias>,
    /// What happens, one after the other, if it is not left to chance.
    pub script: &'static [Act],
}

/// What makes some course of events frequent.
#[derive(Clone, Copy)]
pub struct Bias {
    /// Which of the cast take part.
    pub cast: &'static [Party],
    /// How many different contents a source has; 0 for trees that change in parts.
    pub pieces: usize,
    /// How often of a thousand times a tree changes before it is backed up.
    pub changes: u32,
    /// How many snapshots of a source are kept at most when others are forgotten.
    pub keeps: usize,
    /// How long nobody does anything between two works, at most. Seconds.
    pub gap: i64,
    /// How long a writer sleeps at a call, at most. Seconds.
    pub sleeps: i64,
}

/// What a run came to.
pub struct Ran {
    pub wrong: Option<String>,
    pub trace: Vec<String>,
    pub counts: BTreeMap<&'static str, usize>,
}

struct Member {
    role: Role,
    pass: Pass,
    rights: Rights,
    dir: PathBuf,
    /// The source that it backs up, and its tree.
    source: usize,
    offset: i64,
    /// It does nothing before that time.
    asleep: i64,
    /// The call at which it slept last: it sleeps once at each.
    slept_at: u64,
    shelf: Option<Arc<Shelf>>,
    busy: Option<Busy>,
    has_copy: bool,
    /// Whether its last listing missed something. It lists again only after a while of
    /// the computer's own time, which here is none.
    missed: bool,
}

struct Busy {
    thread: JoinHandle<std::thread::Result<Outcome>>,
    over: Arc<AtomicBool>,
    /// Whether something went wrong that it was told of.
    disturbed: bool,
    several_threads: bool,
    /// Whether it begins with a listing.
    lists: bool,
    crashed: bool,
    what: String,
}

pub struct Run {
    rng: Rng,
    plan: Plan,
    world: Arc<World>,
    keys: Arc<Keys>,
    members: Vec<Member>,
    trees: Vec<Tree>,
    oracle: Oracle,
    given_up: Arc<Mutex<Vec<SnapshotId>>>,
    trouble: u32,
    deeds: usize,
    counts: BTreeMap<&'static str, usize>,
    /// Of a thousand steps, so many see a party fall asleep.
    drowsy: u32,
    /// The collector that was promised that nobody else writes.
    alone: Option<Party>,
    script: script::Progress,
}

/// Runs a seed. One run at a time in a process: randomness and the files' times are
/// those of the whole process.
pub fn run(seed: u64, plan: &Plan) -> Ran {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let place = Place::take(seed);
    let processor = std::env::var("ASOF_SIM_PROCESSOR").map_or(0, |text| text.parse().unwrap_or(0));
    let before = quiet::stay_on(processor);
    meta::only_mtimes(true);
    let mut run = Run::new(seed, plan, &place.dir);
    seed_randomness(seed, &run.world);
    let wrong = run.go().err();
    random::replace(None);
    meta::only_mtimes(false);
    quiet::go(&before);
    *run.counts.entry("snapshots read").or_default() += run.oracle.checks;
    Ran { wrong, trace: run.world.trace(), counts: std::mem::take(&mut run.counts) }
}

/// The directory of a run: always the same for one seed, since paths are backed up too.
struct Place {
    dir: PathBuf,
    _lock: File,
}

impl Place {
    fn take(seed: u64) -> Place {
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let user = rustix::process::getuid().as_raw();
        let base = base.join(format!("asof-sim-{user}"));
        fs::create_dir_all(&base).unwrap();
        let lock = File::create(base.join(format!("{seed}.lock"))).unwrap();
        lock.lock().unwrap();
        let dir = base.join(seed.to_string());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Place { dir, _lock: lock }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The lock stays: somebody may wait for it.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Random bytes follow from the seed, the moment and the thread that asks. A packer
/// draws the same for packs of both kinds, since nothing says which it begins first.
fn seed_randomness(seed: u64, world: &Arc<World>) {
    thread_local! {
        static DRAWN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }
    let world = Arc::clone(world);
    random::replace(Some(Box::new(move |out| {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        let drawn = if thread == "pack" { 0 } else { DRAWN.replace(DRAWN.get() + 1) };
        let from = format!("{seed} {} {thread} {drawn}", world.epoch());
        for (n, part) in out.chunks_mut(32).enumerate() {
            let bytes = sha256(format!("{from} {n}").as_bytes());
            part.copy_from_slice(&bytes[..part.len()]);
        }
    })));
}

impl Run {
    fn new(seed: u64, plan: &Plan, dir: &std::path::Path) -> Run {
        let mut rng = Rng::new(seed);
        let temper = Temper {
            skew: SKEW,
            wrong: *rng.pick(&[0, SKEW / 4, SKEW / 2]),
            hides: *rng.pick(&[0, 100, 500]),
            page: *rng.pick(&[3, 20, 1000]),
            dates_replies: rng.chance(500),
        };
        let temper = match plan.script {
            [] => temper,
            _ => Temper { hides: 0, wrong: 0, ..temper },
        };
        let trouble = plan.trouble.unwrap_or(*rng.pick(&[0, 20, 60, 150]));
        let world = World::new(seed, temper);
        world.set_reads_fail(if trouble > 100 { 5 } else { 0 });
        // One pack of a kind, or one for each frame.
        let pack_bytes = *rng.pick(&[1, 1 << 20]);
        let keys = Arc::new(Keys::new(plan.encrypted, parameters(pack_bytes)));
        world.found(names::CONFIG, keys.config_bytes.clone());
        let trees: Vec<Tree> =
            (0..4).map(|n| Tree::new(&dir.join(format!("source-{n}")), &mut rng)).collect();
        let writer = |source, pass, rights| (Role::Writer, source, pass, rights);
        let mute = if plan.encrypted { Rights::OnlyPut } else { Rights::All };
        let cast = [
            writer(0, Pass::Owner, Rights::All),
            // The same machine twice, as after it was copied.
            writer(0, Pass::Owner, Rights::All),
            writer(1, Pass::Owner, Rights::All),
            writer(2, Pass::Trusted, mute),
            writer(3, Pass::Untrusted, mute),
            (Role::Forgetter, 0, Pass::Owner, Rights::All),
            (Role::Collector, 0, Pass::Owner, Rights::All),
            (Role::Collector, 0, Pass::Owner, Rights::All),
            (Role::Reader, 0, Pass::Owner, Rights::All),
        ];
        let members = cast.into_iter().enumerate();
        let members = members.map(|(n, (role, source, pass, rights))| Member {
            role,
            pass,
            rights,
            dir: dir.join(format!("party-{n}")),
            source,
            offset: *rng.pick(&[0, 0, -HOUR, 90, 3 * HOUR, -80 * HOUR, 300 * HOUR]),
            asleep: 0,
            slept_at: 0,
            shelf: None,
            busy: None,
            has_copy: false,
            missed: false,
        });
        let members = members.collect();
        let owner = Arc::clone(&keys);
        let oracle = Oracle::new(&world, &dir_in(dir), plan.rules, move || owner.owner());
        let drowsy = plan.drowsy.unwrap_or(*rng.pick(&[0, 10, 40]));
        Run {
            rng,
            plan: *plan,
            world,
            keys,
            members,
            trees,
            oracle,
            given_up: Arc::default(),
            trouble,
            deeds: 0,
            counts: BTreeMap::new(),
            drowsy,
            alone: None,
            script: script::Progress::default(),
        }
    }

    fn go(&mut self) -> Result<(), String> {
        self.world.note(OBSERVER, format!("{:?}, trouble {}", self.world.temper, self.trouble));
        let mut outcome = Ok(());
        while outcome.is_ok() && (self.is_more_to_come() || self.is_anyone_busy()) {
            outcome = if self.plan.script.is_empty() { self.step() } else { self.act() };
        }
        let outcome = outcome.and_then(|()| {
            // What was still on its way arrives.
            self.world.advance(30 * GRACE);
            self.oracle.check()?;
            self.oracle.check_as_new()
        });
        self.stop_all();
        outcome
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn is_anyone_busy(&self) -> bool {
        self.members.iter().any(|member| member.busy.is_some())
    }

    fn is_more_to_come(&self) -> bool {
        match self.plan.script {
            [] => self.deeds < self.plan.deeds,
            script => self.script.acts < script.len(),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let passes = self.draw_time();
        self.world.advance(passes);
        let now = self.world.now();
        let awake = |party: Party| self.members[party].asleep <= now;
        let calls: Vec<Waiting> =
            self.world.waiting().into_iter().filter(|call| awake(call.party)).collect();
        let idle: Vec<Party> = (0..self.members.len())
            .filter(|&party| awake(party) && self.members[party].busy.is_none())
            .filter(|_| self.deeds < self.plan.deeds)
            .filter(|&party| self.alone.is_none() || self.members[party].role == Role::Reader)
            .filter(|party| self.plan.bias.is_none_or(|bias| bias.cast.contains(party)))
            .collect();
        match (calls.is_empty(), idle.is_empty()) {
            (true, true) => {
                let wakes = self.members.iter().map(|m| m.asleep).filter(|&at| at > now).min();
                self.world.advance(wakes.ok_or("nobody can do anything")? - now);
            }
            (false, _) if idle.is_empty() || self.rng.chance(800) => {
                let call = self.rng.pick(&calls).clone();
                self.let_happen(&call);
            }
            _ => {
                let party = *self.rng.pick(&idle);
                self.begin(party);
            }
        }
        self.after_a_step()
    }

    fn after_a_step(&mut self) -> Result<(), String> {
        self.oracle.give_up(&self.given_up.lock().unwrap().split_off(0));
        self.oracle.check()?;
        self.finish_those_who_are_done()
    }

    /// How long nothing happens. Mostly seconds while somebody is at work; between two
    /// works hours and days.
    fn draw_time(&mut self) -> i64 {
        let now = self.world.now();
        let busy = self.members.iter().any(|m| m.busy.is_some() && m.asleep <= now);
        if let (Some(bias), false) = (self.plan.bias, busy) {
            return self.rng.within(0, bias.gap);
        }
        match self.rng.below(100) {
            0..=1 => self.rng.within(0, GRACE / 2),
            2..=5 => self.rng.within(0, 6 * HOUR),
            6..=20 => self.rng.within(0, HOUR / 2),
            21..=50 if !busy => self.rng.within(HOUR, GRACE / 3),
            51..=54 if !busy => self.rng.within(GRACE / 2, 2 * GRACE),
            55 if !busy => self.rng.within(2 * GRACE, 6 * GRACE),
            _ => self.rng.within(0, 30),
        }
    }

    fn let_happen(&mut self, call: &Waiting) {
        let party = call.party;
        let writes = self.members[party].role == Role::Writer;
        let may = self.plan.bias.is_none() || writes;
        if may && self.members[party].slept_at != call.ticket && self.rng.chance(self.drowsy) {
            self.members[party].slept_at = call.ticket;
            // The process is suspended, or its packet is on a slow way.
            let most =
                *self.rng.pick(&[SKEW, GRACE / 8, GRACE / 2, GRACE, GRACE + SKEW, 3 * GRACE]);
            let most = self.plan.bias.map_or(most, |bias| bias.sleeps);
            let wakes = self.world.now() + self.rng.within(0, most);
            self.members[party].asleep = wakes;
            self.count("slept at a call");
            return;
        }
        let (fate, then) = self.draw_fate(call.call);
        if fate != Fate::Done || then == Then::Dies {
            if let Some(busy) = &mut self.members[party].busy {
                busy.disturbed = true;
            }
            self.count("calls that went wrong");
        }
        if then == Then::Dies {
            let dir = &self.members[party].dir;
            copy_dir(&dir.join("cache"), &dir.join("crashed"));
            if let Some(busy) = &mut self.members[party].busy {
                busy.crashed = true;
            }
            self.count("crashes");
        }
        self.count(match call.call {
            Call::Put => "writes",
            Call::List => "listings",
            Call::Delete => "deletes",
            Call::Get => "reads",
        });
        self.world.happen(call, fate, then);
        if then != Then::Again || fate == Fate::Done {
            self.wait_for(party);
        }
    }

    fn draw_fate(&mut self, call: Call) -> (Fate, Then) {
        if !self.rng.chance(self.trouble) {
            return (Fate::Done, Then::Hears);
        }
        let fate = match (call, self.rng.below(10)) {
            (Call::List, 0..=6) | (_, 0..=2) => Fate::Refused,
            (Call::List, _) | (_, 3) => Fate::Done,
            (_, 4..=6) => Fate::ReplyLost,
            _ => {
                let most = *self.rng.pick(&[60, HOUR, GRACE / 2, GRACE, 3 * GRACE]);
                Fate::Later(self.world.now() + self.rng.within(1, most))
            }
        };
        let then = match self.rng.below(10) {
            _ if fate == Fate::Done => Then::Dies,
            0..=4 => Then::Again,
            5..=7 => Then::Hears,
            _ => Then::Dies,
        };
        (fate, then)
    }

    /// Waits until a party waits for the store, or is done.
    fn wait_for(&self, party: Party) {
        let Some(busy) = &self.members[party].busy else { return };
        self.world.wait_for(party, || busy.over.load(Ordering::SeqCst));
        if busy.several_threads {
            quiet::settle();
        }
    }

    /// Whether nobody writes and nothing that somebody wrote is still on its way.
    fn is_quiet(&self) -> bool {
        let writes = |member: &Member| member.busy.is_some() && member.role != Role::Reader;
        !self.members.iter().any(writes) && !self.world.is_anything_late()
    }

    /// Ends all threads.
    fn stop_all(&mut self) {
        while let Some(party) = self.members.iter().position(|member| member.busy.is_some()) {
            for call in self.world.waiting() {
                if call.party == party && !self.world.is_dead(party) {
                    self.world.happen(&call, Fate::Refused, Then::Dies);
                }
            }
            if let Some(busy) = self.members[party].busy.take() {
                let _ = busy.thread.join();
            }
        }
    }
}

fn parameters(pack_bytes: u64) -> Parameters {
    Parameters {
        grace_seconds: GRACE.unsigned_abs(),
        skew_seconds: SKEW.unsigned_abs(),
        chunks: Sizes { min: 64, average: 256, max: 1024 },
        pack_bytes,
    }
}
