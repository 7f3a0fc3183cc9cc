use super::*;
use crate::text::StoreWriter;
use crate::text::store::tests::vocabulary;

/// Documents with the given lengths; the ids count up over all of them.
fn store(dir: &tempfile::TempDir, lengths: &[usize]) -> Arc<TokenStore> {
    let mut writer = StoreWriter::create(&dir.path().join("s.tok"), &vocabulary(70_000)).unwrap();
    let mut next = 0;
    for &n in lengths {
        let ids: Vec<u32> = (next..next + n as u32).collect();
        writer.push(&ids, None, n as u64, n).unwrap();
        next += n as u32;
    }
    Arc::new(writer.finish(&[], &[]).unwrap())
}

fn config(batch_size: usize, bptt: usize, layout: LmLayout, windows: Windows) -> LmConfig {
    let key = Key::new(5, 1u32, 0u32);
    let variable = VariableWindows::default();
    LmConfig { batch_size, bptt, layout, windows, variable, direction: Direction::Forward, key }
}

/// All windows of an epoch: (inputs, targets).
fn epoch(batches: &mut LmBatches) -> Vec<(Vec<u32>, Vec<u32>)> {
    let mut all = Vec::new();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    while let Some(t) = batches.next_window(&mut x, &mut y).unwrap() {
        assert_eq!(x.len(), t * batches.config.batch_size);
        assert!(t <= batches.max_window());
        all.push((x.clone(), y.clone()));
    }
    all
}

#[test]
fn fixed_layout_is_batchify() {
    let dir = tempfile::tempdir().unwrap();
    // 11 tokens, 2 columns of 5: 0 1 2 3 4 | 5 6 7 8 9, token 10 dropped; 4 predictions each
    let mut b = LmBatches::new(store(&dir, &[4, 0, 7]), None, config(2, 3, LmLayout::Fixed, Windows::Fixed)).unwrap();
    assert_eq!((b.predictions(), b.windows_in_epoch(0), b.max_window()), (8, 2, 3));
    let windows = epoch(&mut b);
    assert_eq!(windows[0], (vec![0, 5, 1, 6, 2, 7], vec![1, 6, 2, 7, 3, 8]));
    assert_eq!(windows[1], (vec![3, 8], vec![4, 9]));
    assert_eq!(windows.len(), 2);
}

#[test]
fn in_order_layout_is_the_data_loader_of_fastai_v2() {
    let dir = tempfile::tempdir().unwrap();
    // 11 tokens: (11-1)/2 = 5 predictions a column, the last target of column 0 is the first token
    // of column 1
    let mut b = LmBatches::new(store(&dir, &[4, 7]), None, config(2, 4, LmLayout::InOrder, Windows::Fixed)).unwrap();
    let windows = epoch(&mut b);
    assert_eq!(windows[0].0, [0, 5, 1, 6, 2, 7, 3, 8]);
    assert_eq!(windows[1], (vec![4, 9], vec![5, 10]));
    b.rewind();
    assert_eq!(epoch(&mut b), windows);
    // 12 tokens: (12-1)/2 = 5, so column 1 begins at 5, not at 6
    let mut b = LmBatches::new(store(&dir, &[5, 7]), None, config(2, 9, LmLayout::InOrder, Windows::Fixed)).unwrap();
    assert_eq!(epoch(&mut b)[0].0[..4], [0, 5, 1, 6]);
    // every token but the first is predicted once when B = 1
    let mut b = LmBatches::new(store(&dir, &[4, 7]), None, config(1, 4, LmLayout::InOrder, Windows::Fixed)).unwrap();
    let all: Vec<u32> = epoch(&mut b).into_iter().flat_map(|w| w.1).collect();
    assert_eq!(all, (1..11).collect::<Vec<u32>>());
}

#[test]
fn shuffling_moves_whole_documents_and_differs_by_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let lengths: Vec<usize> = (1..40).collect();
    let mut b =
        LmBatches::new(store(&dir, &lengths), None, config(1, 1000, LmLayout::Shuffled, Windows::Fixed)).unwrap();
    let mut orders = Vec::new();
    for _ in 0..2 {
        let windows = epoch(&mut b);
        let mut stream = vec![windows[0].0[0]];
        stream.extend_from_slice(&windows[0].1);
        let mut sorted = stream.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..780).collect::<Vec<u32>>());
        // a document is never torn: breaks in the count happen at borders alone
        let borders: Vec<u32> = lengths
            .iter()
            .scan(0, |at, n| {
                *at += *n as u32;
                Some(*at)
            })
            .collect();
        assert!(stream.windows(2).all(|w| w[1] == w[0] + 1 || borders.contains(&(w[0] + 1))));
        orders.push(stream);
        b.next_epoch();
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn backward_reverses_each_document() {
    let dir = tempfile::tempdir().unwrap();
    let c = LmConfig { direction: Direction::Backward, ..config(1, 4, LmLayout::InOrder, Windows::Fixed) };
    let mut b = LmBatches::new(store(&dir, &[4, 3]), None, c).unwrap();
    let all: Vec<u32> = epoch(&mut b).into_iter().flat_map(|w| w.0).collect();
    assert_eq!(all, [3, 2, 1, 0, 6, 5]);
}

#[test]
fn a_subset_of_documents() {
    let dir = tempfile::tempdir().unwrap();
    let mut b =
        LmBatches::new(store(&dir, &[4, 3, 2]), Some(vec![2, 0]), config(1, 9, LmLayout::InOrder, Windows::Fixed))
            .unwrap();
    assert_eq!((b.tokens(), b.text_bytes()), (6, 6));
    assert_eq!(epoch(&mut b)[0], (vec![7, 8, 0, 1, 2], vec![8, 0, 1, 2, 3]));
}

#[test]
fn variable_windows_follow_their_distribution_and_resume() {
    let dir = tempfile::tempdir().unwrap();
    let s = store(&dir, &[30_000, 30_000]);
    let c = config(2, 70, LmLayout::Fixed, Windows::VariableFirstLong);
    let mut b = LmBatches::new(s.clone(), None, c).unwrap();
    let windows = epoch(&mut b);
    assert_eq!(windows.len() as u32, b.windows_in_epoch(0));
    let lengths: Vec<usize> = windows.iter().map(|w| w.0.len() / 2).collect();
    assert_eq!(lengths[0], 95);
    // at most ⌊n/bptt⌋ − 1 windows
    assert!(lengths.len() < 30_000 / 70);
    let short = lengths.iter().filter(|&&l| l < 53).count();
    assert!((3..=50).contains(&short), "about 5 % have half the length, found {short} of {}", lengths.len());
    let long: Vec<f64> = lengths[1..].iter().filter(|&&l| l >= 53).map(|&l| l as f64).collect();
    let mean = long.iter().sum::<f64>() / long.len() as f64;
    assert!((mean - 69.5).abs() < 1.2, "mean {mean}");

    // resumed in the middle of the second epoch: the same windows as without a stop
    b.next_epoch();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    (0..5).for_each(|_| _ = b.next_window(&mut x, &mut y).unwrap());
    let saved = serde_json::to_string(&b.cursor()).unwrap();
    let rest = epoch(&mut b);
    let mut again = LmBatches::new(s, None, c).unwrap();
    again.seek(serde_json::from_str(&saved).unwrap()).unwrap();
    assert_eq!(epoch(&mut again), rest);
    assert_ne!(rest[0].0.len() + rest[1].0.len(), windows[5].0.len() + windows[6].0.len());
    assert!(again.seek(LmCursor { position: 1 << 40, ..LmCursor::default() }).is_err());
}

#[test]
fn impossible_sizes_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let s = store(&dir, &[5]);
    let status = |b, t, layout| {
        LmBatches::new(s.clone(), None, config(b, t, layout, Windows::Fixed)).err().map(|e| e.exit_status())
    };
    assert_eq!(status(0, 5, LmLayout::Fixed), Some(2));
    assert_eq!(status(1, 0, LmLayout::Fixed), Some(2));
    assert_eq!(status(3, 5, LmLayout::Fixed), Some(1));
    assert_eq!(status(2, 5, LmLayout::Fixed), None);
    assert_eq!(status(5, 5, LmLayout::Shuffled), Some(1));
    assert_eq!(status(4, 5, LmLayout::Shuffled), None);
}
