//! A checkpoint is searched where it is.

use super::*;

/// Search in place: a listing, the checkpoint's record, and for each chunk one ranged
/// read of one node, whatever the size of the repository; the answer is the index's.
#[test]
fn a_chunk_is_found_in_place_with_one_ranged_read() {
    let world = world(true);
    let open = world.repo.open();
    let mut chain = Chain::default();
    for n in 0..30_u32 {
        let pack = pack_fact(n, 700);
        chain.publish(&open, vec![EncodedFact::of(&pack)], Some(far(&world))).unwrap();
    }
    world.pass(2 * SKEW + 1);
    world.compact(&open, 1).unwrap();
    let at = open.sync(true).unwrap().at.unwrap();
    drop_covered(&open, at, true, &HashSet::new(), &Progress::silent(), &Stop::new()).unwrap();
    let index = open.index();
    let count = Arc::new(CountStore::new(Arc::new(world.memory.clone())));
    let stranger = TestRepo::from_elsewhere(count.clone());
    let blank = stranger.open_with(owner_key()).unwrap();
    let before = count.requests();
    let search = repo::checkpoint::Search::open(&blank).unwrap();
    let opened = count.requests().since(before);
    assert_eq!((opened.lists, opened.gets), (1, 1));
    for n in [0, 7, 29] {
        for place in [0, 1, 699] {
            let id = chunk(n, place);
            let before = count.requests();
            let found = search.find(&id).unwrap();
            let used = count.requests().since(before);
            assert_eq!((used.calls(), used.gets), (1, 1));
            assert!(used.bytes_down < 200_000, "{used:?}");
            let known: Vec<_> = index
                .chunk_places(&id)
                .unwrap()
                .iter()
                .map(|at| (index.pack(at.pack).unwrap().unwrap().id, at.start, at.length))
                .collect();
            assert_eq!(found, known);
            assert_eq!(found, [(PackId(sha256(&n.to_le_bytes())), place as u64 * 10, 10)]);
        }
    }
    assert_eq!(search.find(&ChunkId([1; 32])).unwrap(), []);
    assert_eq!(search.find(&ChunkId([0; 32])).unwrap(), [], "before the first");
    assert_eq!(search.find(&ChunkId([255; 32])).unwrap(), []);
    assert_eq!(blank.index().counts().unwrap().0, 0, "the index was not used");
    // What no checkpoint covers yet is found as well.
    let pack = pack_fact(77, 5);
    chain.publish(&open, vec![EncodedFact::of(&pack)], Some(far(&world))).unwrap();
    assert_eq!(find_chunk(&blank, &chunk(77, 4)).unwrap().len(), 1);
}
