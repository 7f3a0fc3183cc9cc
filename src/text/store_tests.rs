use super::*;
use crate::text::TokenizerKind;

pub(in crate::text) fn vocabulary(size: usize) -> Vocabulary {
    let words = (0..size).map(|i| format!("w{i}")).collect();
    Vocabulary::from_words(words, TokenizerKind::Whitespace).unwrap()
}

fn write(path: &Path, size: usize) -> Result<TokenStore> {
    let mut writer = StoreWriter::create(path, &vocabulary(size))?;
    writer.push(&[0, 5, size as u32 - 1], Some(0), 2, 11)?;
    writer.push(&[], None, 0, 0)?;
    writer.push(&[7; 2_000_003], Some(1), 9, 100)?;
    writer.finish(&["neg".into(), "pos".into()], &[1, 0])
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for size in [10, 65_536, 65_537, 100_000] {
        let store = write(&dir.path().join("a.tok"), size).unwrap();
        assert_eq!((store.documents(), store.tokens(), store.words(), store.text_bytes()), (3, 2_000_006, 11, 111));
        assert_eq!(store.document_ids(0).unwrap(), [0, 5, size as u32 - 1]);
        assert_eq!(store.document(1), 3..3);
        assert_eq!((store.document_len(2), store.document_text_bytes(2)), (2_000_003, 100));
        assert_eq!([store.label(0), store.label(1), store.label(2)], [Some(1), None, Some(0)]);
        assert_eq!(store.label_names(), ["neg", "pos"]);
        let mut part = [0; 3];
        store.read(1, &mut part).unwrap();
        assert_eq!(part, [5, size as u32 - 1, 7]);
        store.check_vocabulary(&vocabulary(size)).unwrap();
        assert!(store.check_vocabulary(&vocabulary(size + 1)).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
    }
}

#[test]
fn words_of_documents_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tok");
    let fill = |storage: Storage| {
        let mut writer = StoreWriter::to(storage, &path, &vocabulary(10)).unwrap();
        writer.push(&[2, 5, 6, 7], None, 3, 11).unwrap();
        // one token of its own, two words, the second of two tokens
        writer.push(&[2, 5, 6, 7], None, 2, 11).unwrap();
        writer.mark(&[mark::NONE, mark::BEGINS | mark::ENDS, mark::BEGINS, mark::ENDS]);
        writer.push(&[3, 3], None, 2, 4).unwrap();
        writer.finish(&[], &[]).unwrap()
    };
    for store in [fill(Storage::File(&path)), fill(Storage::Memory), TokenStore::open(&path).unwrap()] {
        let words = [0, 1, 2].map(|document| store.document_words(document));
        assert_eq!(words, [vec![], vec![[1, 1], [2, 3]], vec![]]);
        assert!(store.has_words());
    }
    assert!(!write(&path, 10).unwrap().has_words());
    assert_eq!(std::fs::read(&path).unwrap()[8], 1, "a file without words has the version that it always had");
}

#[test]
fn every_altered_or_missing_byte_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tok");
    write(&path, 10).unwrap();
    let good = std::fs::read(&path).unwrap();
    let message = |bytes: &[u8]| {
        let other = dir.path().join("b.tok");
        std::fs::write(&other, bytes).unwrap();
        TokenStore::open(&other).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert_eq!(message(&good), "");
    let alter = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        message(&bytes)
    };
    assert!(alter(3).contains("not a token file"));
    assert!(alter(40).contains("header"));
    assert!(alter(HEADER + 100).contains("block 0 of 4"));
    assert!(alter(HEADER + BLOCK + 5).contains("block 1 of 4"));
    assert!(alter(good.len() - 1).contains("checksums"));
    assert!(message(&good[..good.len() - 1]).contains("truncated"));
    assert!(message(&good[..HEADER + BLOCK + 9]).contains("it ends in block 1 of 4"));
    assert!(message(&good[..100]).contains("shorter than a header"));
    assert!(message(&[]).contains("shorter than a header"));
}

/// A hostile file: its checksums are right, its content is not.
#[test]
fn ids_outside_the_vocabulary_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    for (size, width) in [(10, 2), (100_000, 4)] {
        let path = dir.path().join(format!("{size}.tok"));
        write(&path, size).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        // the third id of the second block
        let at = HEADER + BLOCK + 2 * width;
        bytes[at..at + width].copy_from_slice(&(size as u32).to_le_bytes()[..width]);
        let mut header: Header = bytemuck::pod_read_unaligned(&bytes[8..8 + size_of::<Header>()]);
        let sums = header.section_starts().unwrap()[6] as usize;
        let sum = digest8(&bytes[HEADER + BLOCK..HEADER + 2 * BLOCK]);
        bytes[sums + 8..sums + 16].copy_from_slice(&sum);
        header.checksums = digest8(&bytes[sums..]);
        bytes[..HEADER].copy_from_slice(&header.to_bytes());
        std::fs::write(&path, bytes).unwrap();
        let message = TokenStore::open(&path).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("block 1 of") && message.ends_with("holds an id outside the vocabulary"), "{message}");
    }
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tok");
    let mut writer = StoreWriter::create(&path, &vocabulary(10)).unwrap();
    writer.push(&[1, 2], None, 1, 1).unwrap();
    drop(writer);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let empty = StoreWriter::create(&path, &vocabulary(10)).unwrap().finish(&[], &[]);
    assert!(empty.is_err_and(|e| e.to_string().contains("no document")));
    assert!(StoreWriter::create(&dir.path().join("missing/a.tok"), &vocabulary(10)).is_err());
}

#[test]
fn classes_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, labels: &[Option<u32>]| {
        let mut writer = StoreWriter::create(&dir.path().join(name), &vocabulary(10)).unwrap();
        labels.iter().for_each(|l| writer.push(&[1, 2], *l, 1, 1).unwrap());
        writer.finish(&["a".into(), "b".into()], &[0, 1]).unwrap()
    };
    let problem = |labels: &[Option<u32>]| make("c.tok", labels).check_classes().err().map(|e| e.to_string());
    assert!(problem(&[None]).is_some_and(|m| m.contains("no document has a label")));
    assert!(problem(&[Some(1), Some(1), None]).is_some_and(|m| m.contains("have the class 'b'")));
    assert_eq!(problem(&[Some(1), Some(0)]), None);
}

/// In memory and in a file without a name as in one with a name.
#[test]
fn every_storage_gives_the_same() {
    for size in [10, 100_000] {
        for storage in [Storage::Memory, Storage::Temporary] {
            let mut writer = StoreWriter::to(storage, Path::new("text"), &vocabulary(size)).unwrap();
            writer.push(&[3, size as u32 - 1], None, 1, 1).unwrap();
            writer.push(&[5, 6, 7], Some(1), 2, 9).unwrap();
            let store = writer.finish(&["a".into(), "b".into()], &[1, 0]).unwrap();
            assert_eq!(store.document_ids(0).unwrap(), [3, size as u32 - 1]);
            assert_eq!(store.document_ids(1).unwrap(), [5, 6, 7]);
            assert_eq!((store.label(0), store.label(1), store.document_text_bytes(1)), (None, Some(0), 9));
            assert_eq!((store.path(), store.tokens()), (Path::new("text"), 5));
        }
    }
}

/// A file that another process shortens or changes: an error of the read that finds it, no signal.
#[test]
fn a_file_that_changes_while_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tok");
    let store = write(&path, 10).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 8], (HEADER + 100) as u64).unwrap();
    let message = |start: u64| store.read(start, &mut [0; 50]).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message(10).ends_with("a.tok: was changed while it was in use"), "{}", message(10));
    assert_eq!(message(1000), "");
    file.set_len(HEADER as u64 + 1000).unwrap();
    assert!(message(1000).ends_with("a.tok: was shortened while it was in use"), "{}", message(1000));
    assert_eq!(store.document_len(2), 2_000_003, "what is in memory is as it was");
}
