//! Runs in which nothing of consequence is left to chance: what happens, one after the
//! other. Between two acts everything happens that somebody waits for and is not held up.

use std::collections::HashMap;

use asof::store::Call;

use super::Run;
use crate::world::{Party, Waiting};

/// A part of a script.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// So many seconds pass.
    Pass(i64),
    /// A party's tree becomes that one of the pieces.
    Become(Party, usize),
    /// A party's tree gets that piece beside what it has.
    Gain(Party, usize),
    /// Listings show a party what another put as late as they may.
    Blind(Party, Party),
    /// A party does what it does, to the end.
    Do(Party),
    /// A party begins, and is held up before each write of a name that begins so.
    Hold(Party, &'static str),
    /// One write of a party that is held up happens: a record's before a pack's.
    Write(Party),
    /// A party that was held up goes on, to the end.
    Release(Party),
}

/// How far a run has come in its script.
#[derive(Default)]
pub(super) struct Progress {
    /// How many acts are over.
    pub(super) acts: usize,
    /// Who is held up, before writes of which names.
    held: HashMap<Party, &'static str>,
}

impl Run {
    pub(super) fn act(&mut self) -> Result<(), String> {
        self.world.advance(self.rng.within(0, 2));
        let held = |call: &Waiting| {
            let names = self.script.held.get(&call.party);
            call.call == Call::Put && names.is_some_and(|names| call.key.starts_with(names))
        };
        let (stays, goes): (Vec<_>, Vec<_>) = self.world.waiting().into_iter().partition(held);
        if let Some(call) = goes.first() {
            self.let_happen(call);
            return self.after_a_step();
        }
        let act = self.plan.script.get(self.script.acts);
        self.script.acts += 1;
        match act {
            Some(Act::Pass(seconds)) => self.world.advance(*seconds),
            Some(Act::Become(party, piece)) => {
                self.trees[self.members[*party].source].become_piece(*piece);
            }
            Some(Act::Gain(party, piece)) => {
                self.trees[self.members[*party].source].gain_piece(*piece);
            }
            Some(Act::Blind(party, by)) => self.world.make_blind(*party, *by),
            Some(Act::Do(party)) => self.begin(*party),
            Some(Act::Hold(party, names)) => {
                self.script.held.insert(*party, names);
                self.begin(*party);
            }
            Some(Act::Write(party)) => {
                if let Some(call) = stays.iter().find(|call| call.party == *party) {
                    self.let_happen(call);
                }
            }
            Some(Act::Release(party)) => drop(self.script.held.remove(party)),
            None => self.script.held.clear(),
        }
        self.after_a_step()
    }
}
