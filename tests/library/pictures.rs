//! The pictures of the guide, drawn from the functions that training calls. Each is compared with
//! the committed file; `ULMFIT_UPDATE=1 cargo test --test library pictures` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use ulmfit::autodiff::Graph;
use ulmfit::nn::documents::Cap;
use ulmfit::ops::concat_pool::{Masking, concat_pool};
use ulmfit::optim::Schedule;
use ulmfit::optim::schedule::OneCycle;
use ulmfit::tensor::{DType, Device, Tensor};
use ulmfit::train::recipe::Recipe;

/// Colours of docs/pictures/stages.svg, for a light and a dark page.
const STYLE: &str = "\
text{fill:#1f2328}.small{font-size:12px;fill:#57606a}.title{font-weight:600}
.axis{stroke:#57606a;fill:none}.curve{stroke:#0969da;fill:none;stroke-width:2}
.other{stroke:#9a6700;fill:none;stroke-width:2}.area{fill:#ddf4ff;stroke:#0969da}
.box{fill:#f6f8fa;stroke:#d0d7de}.enc{fill:#ddf4ff;stroke:#0969da}.head{fill:#fff8c5;stroke:#9a6700}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#8b949e}.axis{stroke:#8b949e}
.curve{stroke:#58a6ff}.other{stroke:#d29922}.area{fill:#0c2d6b;stroke:#58a6ff}
.box{fill:#161b22;stroke:#30363d}.enc{fill:#0c2d6b;stroke:#58a6ff}.head{fill:#4b2900;stroke:#d29922}}
";

struct Picture {
    svg: String,
}

impl Picture {
    fn new(width: u32, height: u32, title: &str) -> Self {
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"14\" role=\"img\" aria-labelledby=\"t\">\n\
             <title id=\"t\">{title}</title>\n<style>\n{STYLE}</style>\n"
        );
        Picture { svg }
    }

    fn text(&mut self, class: &str, anchor: &str, [x, y]: [f64; 2], text: &str) {
        let line = format!("<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>");
        writeln!(self.svg, "{line}").unwrap();
    }

    fn rect(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        let size = format!("width=\"{width:.1}\" height=\"{height:.1}\"");
        writeln!(self.svg, "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" {size} rx=\"3\"/>").unwrap();
    }

    fn path(&mut self, class: &str, points: impl Iterator<Item = [f64; 2]>) {
        let points: Vec<String> = points.map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
        writeln!(self.svg, "<path class=\"{class}\" d=\"M{}\"/>", points.join("L")).unwrap();
    }

    /// Axes of a plot: its left lower corner is `origin`.
    fn axes(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2]) {
        self.path("axis", [[x, y - height], [x, y], [x + width, y]].into_iter());
    }

    /// Compares with the committed file, or writes it.
    fn held(mut self, name: &str) {
        self.svg += "</svg>\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/src/pictures").join(name);
        if std::env::var_os("ULMFIT_UPDATE").is_some() {
            std::fs::write(&path, &self.svg).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(committed == self.svg, "{name} is not what the code draws: ULMFIT_UPDATE=1 writes it anew");
    }
}

/// Rates of a schedule over so many updates, as points of a plot.
fn curve(
    schedule: Schedule,
    updates: u64,
    [x, y]: [f64; 2],
    [width, height]: [f64; 2],
) -> impl Iterator<Item = [f64; 2]> {
    let at = move |t: u64| x + width * t as f64 / (updates - 1).max(1) as f64;
    (0..updates).map(move |t| [at(t), y - height * schedule.at(t, updates).factor])
}

#[test]
fn slanted_triangular_rates() {
    let mut picture = Picture::new(860, 250, "Slanted triangular rates: a short rise, a long fall");
    let (origin, size, updates) = ([70.0, 200.0], [740.0, 150.0], 200);
    let Schedule::Stlr { cut_frac, ratio } = Schedule::STLR else { unreachable!("it is what its name says") };
    picture.text("title", "start", [70.0, 28.0], "Learning rate over the updates of one training");
    picture.axes(origin, size);
    picture.path("curve", curve(Schedule::STLR, updates, origin, size));
    let top = (0..updates).find(|&t| Schedule::STLR.at(t, updates).factor == 1.0).expect("it reaches the top");
    let x = origin[0] + size[0] * top as f64 / (updates - 1) as f64;
    picture.path("axis", [[x, 200.0], [x, 205.0]].into_iter());
    picture.text("small", "middle", [x, 220.0], &format!("cut: {:.0} % of T", 100.0 * cut_frac));
    picture.text("small", "end", [64.0, 54.0], "max");
    picture.text("small", "end", [64.0, 199.0], &format!("max/{ratio}"));
    picture.text("small", "end", [810.0, 220.0], &format!("update T = {updates}"));
    picture.held("stlr.svg");
}

#[test]
fn one_cycle() {
    let mut picture = Picture::new(860, 250, "One cycle: the rate rises and falls, momentum does the opposite");
    let (schedule, updates) = (Schedule::OneCycle(OneCycle::V2), 200);
    picture.text("title", "start", [40.0, 28.0], "Learning rate");
    picture.axes([40.0, 200.0], [370.0, 150.0]);
    picture.path("curve", curve(schedule, updates, [40.0, 200.0], [370.0, 150.0]));
    picture.text("small", "start", [40.0, 220.0], &format!("max/{}", OneCycle::V2.div));
    let x = 40.0 + 370.0 * OneCycle::V2.pct;
    picture.text("small", "middle", [x, 220.0], &format!("{:.0} %", 100.0 * OneCycle::V2.pct));
    picture.text("small", "end", [410.0, 220.0], &format!("max/{}", OneCycle::V2.div_final));
    picture.text("title", "start", [480.0, 28.0], "Momentum");
    picture.axes([480.0, 200.0], [350.0, 150.0]);
    let [most, least, _] = OneCycle::V2.momentum;
    let momentum = |t: u64| {
        let share = (schedule.at(t, updates).momentum.expect("it has one") - least) / (most - least);
        [480.0 + 350.0 * t as f64 / (updates - 1) as f64, 190.0 - 130.0 * share]
    };
    picture.path("other", (0..updates).map(momentum));
    picture.text("small", "end", [474.0, 64.0], &most.to_string());
    picture.text("small", "end", [474.0, 194.0], &least.to_string());
    picture.held("one-cycle.svg");
}

#[test]
fn gradual_unfreezing() {
    let recipe = Recipe::named("paper").unwrap();
    let groups = ["embedding", "LSTM 1", "LSTM 2", "LSTM 3", "head"];
    let steps = recipe.classifier.steps(groups.len());
    let mut picture = Picture::new(860, 310, "Gradual unfreezing: the head first, then one layer more");
    let (row, left, right) = (42.0, 110.0, 840.0);
    let narrow = 116.0;
    let mut x = left;
    for (k, step) in steps.iter().enumerate() {
        let last = k + 1 == steps.len();
        // the last step has many epochs: it takes what is left
        let width = if last { right - x } else { narrow };
        let epochs = if step.epochs == 1 { "1 epoch".to_string() } else { format!("{} epochs", step.epochs) };
        picture.text("small", "middle", [x + width / 2.0, 40.0], &format!("step {}: {epochs}", k + 1));
        for (group, &trains) in step.trains.iter().enumerate() {
            let y = 50.0 + row * (groups.len() - 1 - group) as f64;
            picture.rect("box", [x, y], [width - 6.0, row - 6.0]);
            if trains {
                let (base, size) = ([x, y + row - 6.0], [width - 6.0, row - 10.0]);
                let points = curve(step.schedule, 60, base, size);
                let ends = [[x + size[0], base[1]], base];
                picture.path("area", points.chain(ends));
                let rate = format!("{:.1e}", step.lr[group]);
                picture.text("small", "end", [x + width - 12.0, y + 15.0], &rate);
            }
        }
        x += width;
    }
    for (group, name) in groups.iter().enumerate() {
        let y = 50.0 + row * (groups.len() - 1 - group) as f64 + 22.0;
        picture.text(if group + 1 == groups.len() { "title" } else { "" }, "end", [left - 10.0, y], name);
    }
    picture.text("title", "start", [left, 20.0], "Who learns, when, and at which rate");
    let note = "The number is the maximal rate of the layer; the shape is its schedule. Grey: frozen.";
    picture.text("small", "start", [left, 285.0], note);
    picture.held("unfreezing.svg");
}

#[test]
fn windows_of_bpt3c() {
    let cap = Cap { bptt: 10, max_steps: 40, strict: false, masking: Masking::Version2 };
    let mut picture = Picture::new(860, 260, "BPT3C: a document is read chunk by chunk; the last chunks are kept");
    let (left, scale, height) = (40.0, 8.5, 34.0);
    picture.text("title", "start", [left, 28.0], "Three documents in chunks of 10 tokens; 40 are kept at most");
    for (k, length) in [87usize, 52, 24].into_iter().enumerate() {
        let y = 50.0 + 56.0 * k as f64;
        let first = cap.first_pooled(length);
        for from in (0..length).step_by(cap.bptt) {
            let steps = cap.bptt.min(length - from);
            let class = if from < first { "box" } else { "enc" };
            picture.rect(class, [left + scale * from as f64, y], [scale * steps as f64 - 2.0, height]);
            if from > 0 {
                // the state is carried over, the gradient is not
                let x = left + scale * from as f64 - 1.0;
                picture.path("other", [[x - 6.0, y + 17.0], [x + 6.0, y + 17.0]].into_iter());
            }
        }
        let said = format!("{length} tokens, pooled from token {first}");
        picture.text("small", "start", [left, y + height + 14.0], &said);
    }
    let legend = [("box", "read only: gives its state"), ("enc", "kept: pooled, and learned from")];
    for (k, (class, text)) in legend.into_iter().enumerate() {
        let x = left + 230.0 * k as f64;
        picture.rect(class, [x, 228.0], [20.0, 14.0]);
        picture.text("small", "start", [x + 28.0, 240.0], text);
    }
    picture.path("other", [[500.0, 235.0], [520.0, 235.0]].into_iter());
    picture.text("small", "start", [528.0, 240.0], "the state goes on; the gradient ends here");
    picture.held("bpt3c.svg");
}

#[test]
fn concat_pooling() {
    let words = ["xxbos", "a", "fine", "film", "."];
    let states = [[0.1, -0.3, 0.4], [0.2, 0.1, 0.0], [0.9, 0.3, -0.4], [0.5, 0.8, 0.2], [0.3, 0.6, 0.3]];
    let (t, e) = (words.len(), states[0].len());
    let mut g = Graph::new(Device::Cpu, DType::F64, None);
    let h = g.constant(Tensor::from_slice([t, 1, e], states.as_flattened()).unwrap());
    let lengths = g.constant(Tensor::from_slice([1], &[t as u32]).unwrap());
    let first = g.constant(Tensor::from_slice([1], &[0u32]).unwrap());
    let pooled = concat_pool(&mut g, &[h], 0, lengths, first, Masking::Version2).unwrap();
    let pooled = g.tensor(pooled).to_f64();
    let mut picture = Picture::new(860, 260, "Concat pooling: last state, maximum and mean, side by side");
    let (width, height) = (64.0, 32.0);
    picture.text("title", "start", [40.0, 28.0], "States of the encoder, a column for each token");
    for (k, (word, state)) in words.iter().zip(states).enumerate() {
        let x = 40.0 + (width + 8.0) * k as f64;
        for (unit, value) in state.into_iter().enumerate() {
            let y = 60.0 + (height + 4.0) * unit as f64;
            // what the maximum takes: the first of the largest
            let most = pooled[e + unit];
            let won = value == most && states[..k].iter().all(|earlier| earlier[unit] < most);
            picture.rect(if k + 1 == t || won { "enc" } else { "box" }, [x, y], [width, height]);
            picture.text("", "middle", [x + width / 2.0, y + 21.0], &format!("{value:.1}"));
        }
        picture.text("small", "middle", [x + width / 2.0, 186.0], word);
    }
    picture.text("title", "start", [500.0, 28.0], "Features of the text");
    for (part, name) in ["last", "max", "mean"].into_iter().enumerate() {
        let x = 500.0 + (width + 20.0) * part as f64;
        for unit in 0..e {
            let y = 60.0 + (height + 4.0) * unit as f64;
            picture.rect("head", [x, y], [width, height]);
            let value = format!("{:.2}", pooled[part * e + unit]);
            picture.text("", "middle", [x + width / 2.0, y + 21.0], &value);
        }
        picture.text("small", "middle", [x + width / 2.0, 186.0], name);
    }
    let note = "Blue: the last state, and the value that is the maximum of its unit. The mean takes all.";
    picture.text("small", "start", [40.0, 225.0], note);
    picture.held("concat-pool.svg");
}
