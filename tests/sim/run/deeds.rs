//! What the parties do: they begin, meet with misfortune, and come to an end.

use super::*;

impl Run {
    pub(super) fn begin(&mut self, party: Party) {
        if self.plan.bias.is_none() && self.rng.chance(60) {
            self.misfortune(party);
            return;
        }
        self.deeds += 1;
        let chance = self.rng.next();
        let deed = match self.members[party].role {
            Role::Writer if self.plan.liar && self.members[party].pass == Pass::Untrusted => {
                Deed::Lie { chance }
            }
            // Where nothing makes some course of events frequent, and none is laid down.
            Role::Writer
                if self.plan.bias.is_none()
                    && self.plan.script.is_empty()
                    && self.rng.chance(250) =>
            {
                Deed::Follow {
                    source: format!("s{}", self.members[party].source),
                    after: self.deeds as u64,
                    content: self.rng.below(stream::CONTENTS),
                }
            }
            Role::Writer => {
                let tree = self.members[party].source;
                let tag = format!("deed-{}", self.deeds);
                // A tree that another is reading stays as it is.
                let read = self
                    .members
                    .iter()
                    .any(|m| m.role == Role::Writer && m.source == tree && m.busy.is_some());
                let changes = self.plan.bias.map_or(700, |bias| bias.changes);
                if !read && self.rng.chance(changes) {
                    match self.plan.bias {
                        Some(bias) if bias.pieces > 0 => {
                            let piece = self.rng.below(bias.pieces);
                            self.trees[tree].become_piece(piece);
                        }
                        _ => self.trees[tree].change(&mut self.rng),
                    }
                }
                self.oracle.expect(tag.clone(), self.trees[tree].content());
                Deed::Backup {
                    source: format!("s{tree}"),
                    path: self.trees[tree].path.clone(),
                    tag,
                    force: (!self.plan.script.is_empty()
                        && self.members[party].pass == Pass::Owner)
                        || (self.plan.bias.is_none() && self.rng.chance(100)),
                    skip_if_unchanged: self.rng.chance(200),
                }
            }
            Role::Forgetter => {
                let most = self.plan.bias.map_or(2, |bias| bias.keeps);
                Deed::Forget { keep: self.rng.below(most + 1), chance }
            }
            Role::Collector => match self.plan.collect {
                Some(how) => Deed::Collect { how, chance },
                None => return,
            },
            Role::Reader => {
                let shelf = self.members[party].shelf.clone();
                Deed::Read { shelf, refresh: self.rng.chance(500), chance }
            }
        };
        self.start(party, deed);
    }

    pub(super) fn start(&mut self, party: Party, deed: Deed) {
        let alone = matches!(deed, Deed::Collect { .. })
            && self.plan.bias.is_none()
            && self.is_quiet()
            && self.rng.chance(500);
        if alone {
            self.alone = Some(party);
            // Listings show what was written before.
            self.world.advance(2 * SKEW);
        }
        let lists = !matches!(deed, Deed::Read { refresh: false, .. });
        let (what, name, several_threads) = match &deed {
            Deed::Backup { source, tag, .. } => {
                (format!("backs up {source} as {tag}"), "backups", true)
            }
            Deed::Follow { after, content, .. } => {
                (format!("publishes content {content} at {after}"), "segments", true)
            }
            Deed::Forget { keep, .. } => (format!("forgets all but {keep}"), "forgets", false),
            Deed::Collect { .. } if alone => {
                ("collects alone".to_owned(), "collections alone", true)
            }
            Deed::Collect { .. } => ("collects".to_owned(), "collections", true),
            Deed::Lie { .. } => ("lies".to_owned(), "lies", false),
            Deed::Read { refresh, .. } => (format!("reads, new {refresh}"), "restores", true),
        };
        self.count(name);
        self.world.note(party, &what);
        let member = &mut self.members[party];
        let desk = Desk {
            party,
            store: Arc::new(SimStore::new(&self.world, party, member.rights)),
            keys: Arc::clone(&self.keys),
            pass: member.pass,
            local: LocalOptions { cache_dir: member.dir.join("cache"), cache_bytes: 0 },
            clock: self.world.clock(member.offset),
            rules: self.plan.rules,
            alone,
            given_up: Arc::clone(&self.given_up),
        };
        let over = Arc::new(AtomicBool::new(false));
        let (says_over, world) = (Arc::clone(&over), Arc::clone(&self.world));
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| perform(deed, &desk)));
            drop(desk);
            says_over.store(true, Ordering::SeqCst);
            world.is_over();
            outcome
        };
        let thread = std::thread::Builder::new()
            .name(format!("party-{party}-{}", self.deeds))
            .spawn(work)
            .unwrap();
        member.busy = Some(Busy {
            thread,
            over,
            disturbed: false,
            several_threads,
            lists,
            crashed: false,
            what,
        });
        self.wait_for(party);
    }

    /// What happens to a machine while it does nothing.
    pub(super) fn misfortune(&mut self, party: Party) {
        let dir = self.members[party].dir.clone();
        let (cache, copy) = (dir.join("cache"), dir.join("copy"));
        let other = if party < 2 { 1 - party } else { party };
        let what = match self.rng.below(6) {
            0 => {
                let _ = fs::remove_dir_all(&cache);
                self.members[party].shelf = None;
                "loses its index"
            }
            1 => {
                copy_dir(&cache, &copy);
                self.members[party].has_copy = true;
                "copies its index"
            }
            2 if self.members[party].has_copy => {
                copy_dir(&copy, &cache);
                self.members[party].shelf = None;
                "is set back to an old index"
            }
            3 if other != party && self.members[other].busy.is_none() => {
                copy_dir(&self.members[other].dir.join("cache"), &cache);
                "becomes a copy of the other"
            }
            4 => {
                let now = self.world.now();
                self.members[party].asleep = now + self.rng.within(0, 6 * GRACE);
                "sleeps long"
            }
            _ => {
                let jump = self.rng.within(-200 * HOUR, 200 * HOUR);
                self.members[party].offset = jump;
                "has another time"
            }
        };
        self.world.note(party, what);
        self.count("misfortunes");
    }

    pub(super) fn finish_those_who_are_done(&mut self) -> Result<(), String> {
        for party in 0..self.members.len() {
            let busy = self.members[party].busy.as_ref();
            if !busy.is_some_and(|busy| busy.over.load(Ordering::SeqCst)) {
                continue;
            }
            let Some(busy) = self.members[party].busy.take() else { continue };
            self.finish(party, busy)?;
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, party: Party, busy: Busy) -> Result<(), String> {
        let outcome = busy.thread.join().and_then(|outcome| outcome);
        let outcome = outcome.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            format!("party {party} panicked: {}", text.unwrap_or_default())
        })?;
        if self.alone == Some(party) {
            // What it did shows in every listing before anybody else writes.
            self.world.advance(SKEW + 1);
            self.alone = None;
        }
        if busy.crashed {
            let dir = &self.members[party].dir;
            copy_dir(&dir.join("crashed"), &dir.join("cache"));
            self.members[party].shelf = None;
            self.world.revive(party);
            self.world.note(party, "begins anew");
            return Ok(());
        }
        let before = self.members[party].missed && !busy.lists;
        let missed = self.world.take_missed(party) || before;
        self.members[party].missed = missed;
        let trouble = match outcome {
            Outcome::BackedUp(Ok(report)) => {
                self.world.note(party, format!("stored, {:?}", report.written));
                if let Some(id) = report.snapshot {
                    self.oracle.promise(id);
                    self.count("snapshots");
                }
                // The promise is to be kept from now on.
                self.oracle.look_again();
                self.oracle.check()?;
                None
            }
            Outcome::Followed(Ok(after)) => {
                self.oracle.segments.promise(after);
                self.oracle.look_again();
                self.oracle.check()?;
                None
            }
            Outcome::Forgot(Ok(count)) => {
                self.world.note(party, format!("forgot {count}"));
                None
            }
            Outcome::Lied(Ok(())) => None,
            Outcome::Collected(Ok(report)) => {
                self.world.note(party, format!("collected: {report}"));
                None
            }
            Outcome::Read(Ok(back)) => {
                self.members[party].shelf = Some(Arc::clone(&back.shelf));
                match back.snapshot {
                    Some((id, tag, Ok(found))) => {
                        if self.oracle.content_of(&tag).is_none_or(|model| **model != found) {
                            return Err(format!(
                                "a reader read snapshot {id} ({tag}) as other than it was"
                            ));
                        }
                        None
                    }
                    Some((id, tag, Err(why)))
                        if !self.oracle.is_given_up(id)
                            && !busy.disturbed
                            && !missed
                            && self.trouble <= 100 =>
                    {
                        return Err(format!("a reader cannot read snapshot {id} ({tag}): {why}"));
                    }
                    _ => None,
                }
            }
            Outcome::BackedUp(Err(why)) | Outcome::Forgot(Err(why)) => Some(why),
            Outcome::Lied(Err(why)) | Outcome::Followed(Err(why)) => Some(why),
            Outcome::Collected(Err(why)) | Outcome::Read(Err(why)) => Some(why),
        };
        if let Some(why) = trouble {
            self.world.note(party, format!("fails: {}", why.text));
            self.count(if why.late { "too late" } else { "failed" });
            // Reads fail now and then where there is much trouble.
            // A pack that a listing missed is taken for lost, and a collector does nothing
            // if its listing took long. Neither loses anything.
            let excused = why.late
                || (missed && why.text.contains("in no pack that is"))
                || why.text.contains("listing it took too long");
            if !busy.disturbed && !excused && self.trouble <= 100 {
                return Err(format!(
                    "party {party} {}, and failed although no call did: {}",
                    busy.what, why.text
                ));
            }
        }
        Ok(())
    }
}
