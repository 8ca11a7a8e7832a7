//! Any order of what a program, others and a follower can do.
//!
//! The program's every commit adds one to its counter, so the model is a number: the
//! states of the image must be all the numbers between a base and the last commit.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    /// One transaction; the number decides how large it is.
    Count(u8),
    /// One that is spilled to the log and given up.
    Abandon,
    /// A transaction that writes the whole database anew.
    Vacuum,
    /// A checkpoint from another connection, which does not wait.
    Checkpoint(&'static str),
    /// Another connection begins to read, or ends.
    Read,
    /// The program closes its connections and begins again.
    Reconnect,
    /// Commits are pulled, some or all.
    Pull(u16),
    /// Time passes.
    Wait,
    /// A base is taken in between.
    Base,
    /// The follower is ended, and begun again after so many commits.
    Restart(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let modes = prop::sample::select(vec!["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
    prop_oneof![
        12 => any::<u8>().prop_map(Step::Count),
        1 => Just(Step::Abandon),
        1 => Just(Step::Vacuum),
        4 => modes.prop_map(Step::Checkpoint),
        2 => Just(Step::Read),
        1 => Just(Step::Reconnect),
        6 => any::<u16>().prop_map(Step::Pull),
        2 => Just(Step::Wait),
        1 => Just(Step::Base),
        2 => (0_u8..30).prop_map(Step::Restart),
    ]
}

struct World {
    database: Database,
    program: rusqlite::Connection,
    other: rusqlite::Connection,
    reads: bool,
    follower: Option<Follower>,
    image: Image,
    /// What the program has counted to, and how many of its vacuums were not seen yet.
    count: i64,
    vacuums: i64,
}

impl World {
    fn new() -> World {
        let database = Database::new();
        let program = database.counter().connection;
        let other = database.connect();
        other.busy_timeout(Duration::ZERO).unwrap();
        let mut follower = database.follow_eagerly(None);
        let image = Image::of(&mut follower.base().unwrap());
        World {
            program,
            other,
            reads: false,
            follower: Some(follower),
            image,
            count: 0,
            vacuums: 0,
            database,
        }
    }

    fn count(&mut self, size: u8) {
        let size = i64::from(size);
        self.program
            .execute_batch(&format!(
                "BEGIN; UPDATE counter SET n = n + 1;
                 WITH RECURSIVE i(x) AS (SELECT {size} UNION ALL SELECT x + 1 FROM i WHERE x < {size} + {size} % 9)
                 INSERT OR REPLACE INTO filler SELECT x % 60, randomblob(x * {size} % 5000) FROM i;
                 DELETE FROM filler WHERE id = {size} % 60;
                 COMMIT"
            ))
            .unwrap();
        self.count += 1;
    }

    fn apply(&mut self, commits: &[Commit]) {
        for commit in commits {
            let before = self.image.counter();
            self.image.apply(commit);
            match self.image.counter() - before {
                0 if self.vacuums > 0 => self.vacuums -= 1,
                made => assert_eq!(made, 1),
            }
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Count(size) => self.count(size),
            Step::Abandon => {
                self.program
                    .execute_batch(
                        "PRAGMA cache_size = 4; BEGIN;
                         UPDATE filler SET bytes = randomblob(4000); UPDATE counter SET n = -1;
                         ROLLBACK",
                    )
                    .unwrap();
            }
            Step::Vacuum => {
                self.program.execute_batch("VACUUM").unwrap();
                self.vacuums += 1;
            }
            Step::Checkpoint(mode) => {
                // It may be refused.
                let pragma = format!("PRAGMA wal_checkpoint({mode})");
                let _ = self.other.query_row(&pragma, [], |_| Ok(()));
            }
            Step::Read => {
                self.reads = !self.reads;
                let batch = if self.reads { "BEGIN; SELECT n FROM counter" } else { "COMMIT" };
                self.other.execute_batch(batch).unwrap();
            }
            Step::Reconnect => {
                self.program = self.database.connect();
                self.other = self.database.connect();
                self.other.busy_timeout(Duration::ZERO).unwrap();
                self.reads = false;
            }
            Step::Pull(limit) => {
                let follower = self.follower.as_mut().unwrap();
                let commits = follower.pull(usize::from(limit)).unwrap();
                self.apply(&commits);
            }
            Step::Wait => {
                let follower = self.follower.as_mut().unwrap();
                let _ = follower.wait(Duration::ZERO, &Stop::new()).unwrap();
            }
            Step::Base => {
                let mut follower = self.follower.take().unwrap();
                let mut base = follower.base().unwrap();
                let image = Image::of(&mut base);
                let before = std::mem::take(&mut base.before);
                drop(base);
                self.apply(&before);
                assert_eq!(self.image.bytes(), image.bytes());
                self.follower = Some(follower);
            }
            Step::Restart(commits) => self.restart(commits),
        }
    }

    fn restart(&mut self, commits: u8) {
        let position = kept(self.follower.as_ref().unwrap());
        self.follower = None;
        for size in 0..commits {
            self.count(size);
        }
        let mut follower = self.database.follow_eagerly(Some(&position));
        if follower.start() != Start::Continues {
            self.image = Image::of(&mut follower.base().unwrap());
            assert_eq!(self.image.counter(), self.count);
            self.vacuums = 0;
        }
        self.follower = Some(follower);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_commit_is_returned_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        let mut follower = world.follower.take().unwrap();
        world.apply(&drain(&mut follower));
        prop_assert_eq!(world.image.counter(), world.count);
        prop_assert_eq!(world.vacuums, 0);
        world.image.check();
    }
}
