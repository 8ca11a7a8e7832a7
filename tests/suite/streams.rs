//! States of streams: whatever is published, every state reads as it was.

use asof::base::SnapshotId;
use asof::repo::streams::state_id;
use proptest::prelude::*;

use crate::followed::{Model, STREAM, assert_state, files};
use crate::world::forget_in;

#[derive(Debug, Clone)]
enum Act {
    Commit(u32, Vec<u32>),
    Segment,
    Image,
    /// Look at a state while there are others to come.
    Look(u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_u32..12, prop::collection::vec(0_u32..12, 0..5)).prop_map(|(s, p)| Act::Commit(s, p)),
        2 => Just(Act::Segment),
        1 => Just(Act::Image),
        1 => any::<u32>().prop_map(Act::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever transactions there are, however they lie in segments and between images:
    /// each state that was published reads as it was, for who looked before and for who
    /// did not.
    #[test]
    fn every_published_state_reads_as_it_was(
        pages in 1_u32..9,
        acts in prop::collection::vec(act(), 1..40),
        window in (any::<u64>(), 0_usize..2000),
    ) {
        let mut model = Model::new(pages);
        let library = model.elsewhere();
        for act in acts {
            match act {
                Act::Commit(size, pages) => model.commit(size, &pages),
                Act::Segment => model.segment(),
                Act::Image => {
                    model.segment();
                    model.image();
                }
                Act::Look(which) => {
                    let position = u64::from(which) % (model.published + 1);
                    library.refresh().unwrap();
                    let expected = &model.states[position as usize];
                    assert_state(library.as_ref(), position, expected, window);
                }
            }
        }
        library.refresh().unwrap();
        for library in [library, model.elsewhere()] {
            for (position, expected) in (0..=model.published).zip(&model.states) {
                assert_state(library.as_ref(), position, expected, window);
            }
            prop_assert!(files(library.as_ref(), model.published + 1).is_none());
        }
    }
}

/// What lies behind a hole is not shown: it would be made of the wrong pages.
#[test]
fn nothing_is_shown_that_a_missing_segment_leads_to() {
    let mut model = Model::new(4);
    for _ in 0..3 {
        model.commit(4, &[1]);
        model.segment();
    }
    let second = model.segments()[1].1.id;
    let library = model.elsewhere();
    assert!(files(library.as_ref(), 3).is_some());
    forget_in(&model.repo, second);
    library.refresh().unwrap();
    for library in [library, model.elsewhere()] {
        assert_state(library.as_ref(), 1, &model.states[1], (0, 100));
        assert!(files(library.as_ref(), 2).is_none());
        assert!(files(library.as_ref(), 3).is_none());
    }
    // The next image makes what follows whole again.
    model.image();
    model.commit(5, &[2]);
    model.segment();
    let library = model.elsewhere();
    assert_state(library.as_ref(), 3, &model.states[3], (0, 100));
    assert_state(library.as_ref(), 4, &model.states[4], (0, 100));
    assert!(files(library.as_ref(), 2).is_none());
}

/// What a stranger may ask for is not there, and no error.
#[test]
fn an_id_of_nobody_is_no_state() {
    let model = Model::new(2);
    let library = model.elsewhere();
    let nobody = SnapshotId([7; 16]);
    assert!(library.snapshot(&nobody).unwrap().is_none());
    assert!(library.snapshot(&state_id(&STREAM, u64::MAX)).unwrap().is_none());
    assert!(library.snapshot(&state_id(&STREAM, 0)).unwrap().is_some());
}
