use std::io::Write;

use super::*;

/// A log that was written here, with checksums of words in either order.
struct Log {
    file: tempfile::NamedTempFile,
    point: Point,
}

impl Log {
    fn new(page_size: u32, big_endian: bool, salts: [u8; 8]) -> Log {
        let mut header = Vec::new();
        for word in [MAGIC | u32::from(big_endian), VERSION, page_size, 0] {
            header.extend(word.to_be_bytes());
        }
        header.extend(salts);
        for word in checksum(big_endian, &header, [0, 0]) {
            header.extend(word.to_be_bytes());
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&header).unwrap();
        let point = Point::after_header(&header.try_into().unwrap()).unwrap();
        Log { file, point }
    }

    fn frame(&mut self, number: u32, database_pages: u32, fill: u8) {
        let mut head = Vec::new();
        head.extend(number.to_be_bytes());
        head.extend(database_pages.to_be_bytes());
        let page = vec![fill; self.point.page_size as usize];
        let sum = checksum(self.point.big_endian, &head, self.point.checksum);
        self.point.checksum = checksum(self.point.big_endian, &page, sum);
        head.extend(self.point.salts);
        for word in self.point.checksum {
            head.extend(word.to_be_bytes());
        }
        self.file.write_all(&head).unwrap();
        self.file.write_all(&page).unwrap();
        self.point.offset += self.point.frame_bytes();
    }

    fn open(&self) -> Wal {
        Wal::open(self.file.path()).unwrap()
    }
}

/// Sums that were computed by the definition, word by word.
#[test]
fn checksums_are_those_of_the_definition() {
    let bytes: Vec<u8> = (0..64).map(|i: u8| i.wrapping_mul(201) ^ 0x5a).collect();
    for big_endian in [false, true] {
        let (mut first, mut second) = (7_u64, u64::from(u32::MAX));
        for pair in bytes.chunks(8) {
            let word = |at: usize| {
                let shifts = if big_endian { [24, 16, 8, 0] } else { [0, 8, 16, 24] };
                (0..4).map(|i| u64::from(pair[at + i]) << shifts[i]).sum::<u64>()
            };
            first = (first + word(0) + second) % (1 << 32);
            second = (second + word(4) + first) % (1 << 32);
        }
        let expected = [first, second].map(|sum| u32::try_from(sum).unwrap());
        assert_eq!(checksum(big_endian, &bytes, [7, u32::MAX]), expected);
    }
}

#[test]
fn transactions_end_with_their_commit_and_nothing_is_read_behind_the_end() {
    for (page_size, big_endian) in [(512, true), (4096, false), (65536, true)] {
        let mut log = Log::new(page_size, big_endian, [9; 8]);
        log.frame(1, 0, 1);
        log.frame(2, 0, 2);
        log.frame(1, 2, 3);
        let first = log.point;
        log.frame(3, 3, 4);
        let second = log.point;
        log.frame(4, 0, 5);
        log.frame(5, 0, 6);
        let mut wal = log.open();
        let begin = wal.begin().unwrap().unwrap();
        assert_eq!((begin.page_size, begin.big_endian), (page_size, big_endian));
        let Next::Transaction(transaction, point) =
            wal.next(&begin, second.offset, usize::MAX).unwrap()
        else {
            panic!("no transaction")
        };
        assert_eq!(point, first);
        let numbers: Vec<u32> = transaction.frames.iter().map(|frame| frame.number).collect();
        assert_eq!(numbers, [1, 2, 1]);
        let fills: Vec<u8> =
            transaction.bytes.unwrap().chunks(page_size as usize).map(|page| page[9]).collect();
        assert_eq!(fills, [1, 2, 3]);
        let Next::Transaction(transaction, point) = wal.next(&first, second.offset, 0).unwrap()
        else {
            panic!("no transaction")
        };
        assert_eq!((point, transaction.database_pages, transaction.bytes), (second, 3, None));
        assert_eq!(wal.next(&second, second.offset, 0).unwrap(), Next::End);
        // A tail without a commit is nothing, however much of it there is.
        assert_eq!(wal.next(&second, log.point.offset, 0).unwrap(), Next::Invalid);
        assert_eq!(wal.next(&second, u64::MAX, 0).unwrap(), Next::Invalid);
        for point in [begin, first, second] {
            assert!(wal.has(&point).unwrap());
            assert!(!wal.has(&Point { salts: [8; 8], ..point }).unwrap());
            assert!(!wal.has(&Point { checksum: [1, 2], ..point }).unwrap());
        }
        assert!(!wal.has(&Point { offset: 33, ..first }).unwrap());
    }
}

/// Each byte that vouches for a transaction is looked at.
#[test]
fn any_damage_to_a_transaction_is_noticed() {
    let mut log = Log::new(512, false, [3; 8]);
    log.frame(1, 0, 1);
    log.frame(2, 2, 2);
    let bytes = std::fs::read(log.file.path()).unwrap();
    let begin = log.open().begin().unwrap().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(log.file.path(), damaged).unwrap();
        let mut wal = log.open();
        if at < 32 {
            assert_eq!(wal.begin().unwrap(), None, "byte {at}");
        } else {
            let next = wal.next(&begin, log.point.offset, usize::MAX).unwrap();
            assert_eq!(next, Next::Invalid, "byte {at}");
        }
    }
    for length in 0..bytes.len() {
        std::fs::write(log.file.path(), &bytes[..length]).unwrap();
        let next = log.open().next(&begin, log.point.offset, usize::MAX).unwrap();
        assert_eq!(next, Next::Invalid, "cut to {length}");
    }
}

/// A page that is read later is the one that was meant, or none.
#[test]
fn a_page_of_an_older_generation_is_not_returned() {
    let mut log = Log::new(512, false, [3; 8]);
    log.frame(7, 7, 1);
    let (wal, frame) = (log.open(), Frame { number: 7, offset: HEADER_BYTES });
    let pages = wal.pages(&log.point);
    let mut page = [0; 512];
    assert!(pages.read(frame, &mut page).unwrap());
    assert_eq!(page, [1; 512]);
    assert!(!pages.read(Frame { number: 8, ..frame }, &mut page).unwrap());
    assert!(!pages.read(Frame { offset: log.point.offset, ..frame }, &mut page).unwrap());
    let mut other = Log::new(512, false, [4; 8]);
    other.frame(7, 7, 2);
    std::fs::write(log.file.path(), std::fs::read(other.file.path()).unwrap()).unwrap();
    assert!(!pages.read(frame, &mut page).unwrap());
}
