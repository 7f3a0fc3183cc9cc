//! After its first steps, training a language model takes nothing from the heap: forward, backward,
//! clipping, optimiser and the loop around them run in memory that is there, although windows
//! differ in length.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ulmfit::autodiff::{Graph, Parameters, ParametersBuilder};
use ulmfit::error::Result;
use ulmfit::nn::{AwdLstmSettings, LanguageModelSettings};
use ulmfit::optim::Schedule;
use ulmfit::random::{Key, Site, Stream};
use ulmfit::tensor::{DType, Device};
use ulmfit::text::{Direction, StoreWriter, TokenStore, TokenizerKind, Vocabulary, Windows};
use ulmfit::train::Stage;
use ulmfit::train::assemble::{self, Assembled};
use ulmfit::train::checkpoint::Checkpoints;
use ulmfit::train::driver::{LoopSettings, Training, UnfreezingPhase};
use ulmfit::train::lm_task::LmTaskSettings;
use ulmfit::train::observer::{Event, Observer};
use ulmfit::train::recipe::{LmSettings, OptimiserName, Recipe, TrainingSettings};

use crate::alone::alone;
use crate::tasks::lm_settings;

/// The system's allocator, counted over all threads.
struct Counting;

static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() {
    CALLS.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of heap calls at every step, and the step's tokens; and how often the layers were
/// told of.
struct Steps(Vec<(u64, u64)>, usize);

impl Observer for Steps {
    fn observe(&mut self, event: &Event) -> Result<()> {
        if let Event::Step(step) = event {
            assert!(self.0.len() < self.0.capacity(), "this listener must not call the heap either");
            self.0.push((CALLS.load(Ordering::Relaxed), step.tokens));
        }
        self.1 += usize::from(matches!(event, Event::Layers(_)));
        Ok(())
    }

    fn wants_layers(&self) -> bool {
        true
    }
}

const VOCABULARY: usize = 300;
const ROWS: usize = 8;
const BPTT: usize = 20;

fn store(directory: &Path) -> Arc<TokenStore> {
    let words = (0..VOCABULARY).map(|i| format!("w{i}")).collect();
    let vocabulary = Vocabulary::from_words(words, TokenizerKind::Whitespace).unwrap();
    let mut writer = StoreWriter::create(&directory.join("text.tok"), &vocabulary).unwrap();
    let mut random = Stream::new(Key([1, 2]), Site::CUSTOM[0], 0, 0);
    for _ in 0..60 {
        let ids: Vec<u32> = (0..200).map(|_| 2 + random.below(VOCABULARY as u32 - 2)).collect();
        writer.push(&ids, None, 200, 800).unwrap();
    }
    Arc::new(writer.finish(&[], &[]).unwrap())
}

struct Case {
    windows: Windows,
    negatives: Option<usize>,
    ar_on_dropped: bool,
    optimiser: OptimiserName,
}

/// Trains for an epoch; heap calls and tokens of every step.
fn steps(store: &Arc<TokenStore>, case: &Case) -> Vec<(u64, u64)> {
    let key = Key::new(3, Stage::Pretrain, Direction::Forward);
    let encoder = AwdLstmSettings { vocabulary: VOCABULARY, embedding: 32, hidden: 64, layers: 3, pad: Some(1) };
    let architecture = LanguageModelSettings { encoder: encoder.into(), decoder_bias: true, splits: vec![] };
    let place = |declared: ParametersBuilder| -> Result<(Parameters, Graph)> {
        Ok((declared.build(DType::F32)?, Graph::new(Device::Cpu, DType::F32, None)))
    };
    let Assembled { network, mut parameters, mut graph } =
        assemble::language_model(architecture, key, None, place).unwrap();
    let mut settings = LmSettings { ar_on_dropped: case.ar_on_dropped, ..lm_settings() };
    settings.training = TrainingSettings {
        batch_size: ROWS,
        bptt: BPTT,
        windows: case.windows,
        window_sd: 5.0,
        window_half_p: 0.3,
        window_excess: 15,
        ..settings.training
    };
    let task = LmTaskSettings { negatives: case.negatives, ..assemble::lm_task_settings(&settings, VOCABULARY) };
    let (direction, texts, counts) = (Direction::Forward, (store.clone(), None), [1; VOCABULARY]);
    let mut task =
        assemble::language_model_task(&network, &parameters, &settings, task, direction, key, texts, None, &counts)
            .unwrap();
    let groups = parameters.groups();
    let phase = UnfreezingPhase {
        epochs: 1,
        trainable: vec![true; groups],
        rates: vec![1e-3; groups],
        schedule: Schedule::STLR,
    };
    let training = TrainingSettings {
        clip: Some(0.1),
        max_steps: None,
        optimiser: case.optimiser,
        ..Recipe::named("tiny").unwrap().pretrain.training
    };
    let settings = LoopSettings { stage: Stage::Pretrain, phases: vec![phase], training };
    let mut observer = Steps(Vec::with_capacity(1000), 0);
    Training::new(settings, &mut task, &mut graph, &mut parameters, &mut observer, Checkpoints::none(), None)
        .unwrap()
        .run()
        .unwrap();
    assert_eq!(observer.1, observer.0.len(), "few steps: the layers are told of at each");
    observer.0
}

#[test]
fn training_steps_do_not_call_the_heap() {
    // no other test runs beside it and is counted with it
    alone(concat!(module_path!(), "::training_steps_do_not_call_the_heap"), steps_do_not_call_the_heap);
}

fn steps_do_not_call_the_heap() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(directory.path());
    let base =
        Case { windows: Windows::Variable, negatives: None, ar_on_dropped: true, optimiser: OptimiserName::Adam };
    let cases = [
        Case { windows: Windows::VariableFirstLong, negatives: Some(50), ar_on_dropped: false, ..base },
        Case { windows: Windows::Fixed, optimiser: OptimiserName::Sgd, ..base },
        Case { optimiser: OptimiserName::Asgd, ..base },
        base,
    ];
    // steps run inside the pool: work that comes from outside of it is queued, and a queue grows
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    for case in cases {
        let steps = pool.install(|| steps(&store, &case));
        let lengths: std::collections::BTreeSet<u64> = steps.iter().map(|s| s.1).collect();
        assert!(steps.len() > 50 && (lengths.len() > 10 || case.windows == Windows::Fixed), "{lengths:?}");
        let calls: Vec<u64> = steps.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        // between the ends of steps 2 and 3, 3 and 4, …
        assert!(calls[1..].iter().all(|&n| n == 0), "heap calls between steps: {calls:?}");
    }
}
