"""What exported models compute in PyTorch, fastai 2 and ONNX Runtime, beside what this program
does.
Models: those of tests/import, taken over by `ulmfit import`; texts of 1 to 200 words.
Needs torch, fastai, onnx, onnxruntime, safetensors. usage: tools/peer/export.py ULMFIT"""
import json, os, pickle, random, subprocess, sys, tempfile
import numpy as np, onnx, onnxruntime, torch
from safetensors.torch import load_file
from fastai.text.all import AWD_LSTM, get_language_model, get_text_classifier

ulmfit = os.path.abspath(sys.argv[1])
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../../tests/import')
sizes = json.load(open(os.path.join(here, 'sizes.json')))
V, E, H, L, C, BPTT, MOST = sizes['V'], sizes['E'], sizes['H'], sizes['layers'], sizes['classes'], 6, 24
expected = load_file(os.path.join(here, 'expected.safetensors'))
work = tempfile.mkdtemp()
worst = 0.


def run(*line):
    done = subprocess.run([ulmfit, *line, '--json', '--quiet'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def near(what, ours, theirs, most):
    global worst
    error = float(np.abs(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)).max())
    print(f'{what:52} {error:.1e} ({most:.0e} is allowed)')
    assert error <= most, what


def place(name):
    return os.path.join(work, name)


# the models: those of the fixture, and a classifier that pools the last 24 words only
for name, weights, vocab, more in (('lm', 'fastai2_lm.pth', 'vocab_list.pkl', []),
                                   ('clf', 'fastai2_classifier.pth', 'vocab_classifier.pkl', ['--bptt', str(BPTT), '--max-len', '120']),
                                   ('capped', 'fastai2_classifier.pth', 'vocab_classifier.pkl', ['--bptt', str(BPTT), '--max-len', str(MOST)])):
    run('import', '--weights', os.path.join(here, weights), '--vocab', os.path.join(here, vocab), '--out', place(name), *more)
    for to, ending in (('pytorch', 'pt'), ('fastai', 'pth'), ('safetensors', 'safetensors'), ('onnx', 'onnx')):
        run('export', '--model', place(name), '--to', to, '--out', place(f'{name}.{ending}'))

# fastai 2
config = dict(emb_sz=E, n_hid=H, n_layers=L, pad_token=1, bidir=False, output_p=.1, hidden_p=.15, input_p=.25, embed_p=.02, weight_p=.2)
lm = get_language_model(AWD_LSTM, V, dict(config, tie_weights=True, out_bias=True)).eval()
lm.load_state_dict(torch.load(place('lm.pth'), weights_only=True))
words = pickle.load(open(place('lm.vocab.pkl'), 'rb'))
assert len(words) == V and words[0] == 'xxunk'
lm[0].bs = 3; lm[0].reset()
with torch.no_grad():
    near('fastai, language model, first call', lm(expected['tokens'])[0], expected['logits'], 1e-6)
    near('fastai, language model, state carried', lm(expected['tokens'])[0], expected['logits_second_call'], 1e-6)
clf = get_text_classifier(AWD_LSTM, V, C, seq_len=BPTT, config=config, lin_ftrs=[10], ps=[.1]).eval()
clf.load_state_dict(torch.load(place('clf.pth'), weights_only=True))
assert pickle.load(open(place('clf.vocab.pkl'), 'rb'))[1] == [f'class{i}' for i in range(C)]
documents = [expected[f'clf_doc{i}'] for i in range(6)]
T = max(len(d) for d in documents)
padded = torch.full((6, T), 1)
for i, d in enumerate(documents):
    k = (T - len(d)) // BPTT * BPTT
    padded[i, k:k + len(d)] = d
with torch.no_grad():
    near('fastai, classifier', clf(padded)[0], expected['clf_logits'], 1e-6)

# PyTorch alone: the state dict's names are those of these modules
state = torch.load(place('lm.pt'), weights_only=True)
assert set(state) == set(load_file(place('lm.safetensors')))
assert all(torch.equal(state[k], v) for k, v in load_file(place('lm.safetensors')).items())
with torch.no_grad():
    x = torch.nn.functional.embedding(expected['tokens'], state['encoder.weight'])
    for l in range(L):
        lstm = torch.nn.LSTM(x.shape[2], state[f'rnns.{l}.weight_hh_l0'].shape[1], batch_first=True)
        lstm.load_state_dict({k.split('.')[-1]: v for k, v in state.items() if k.startswith(f'rnns.{l}.')})
        x, _ = lstm(x)
    near('PyTorch, language model', x @ state['encoder.weight'].T + state['decoder.bias'], expected['logits'], 1e-6)

# ONNX Runtime
for name in ('lm', 'clf', 'capped'):
    onnx.checker.check_model(onnx.load(place(f'{name}.onnx')), full_check=True)
session = onnxruntime.InferenceSession(place('lm.onnx'))
units = [H] * (L - 1) + [E]
state = {f'{k}{l}': np.zeros((1, 3, n), np.float32) for l, n in enumerate(units) for k in 'hc'}
names = [o.name for o in session.get_outputs()]
for call, target in ((1, 'logits'), (2, 'logits_second_call')):
    out = dict(zip(names, session.run(None, {'tokens': expected['tokens'].numpy(), **state})))
    state = {k.removesuffix('_next'): v for k, v in out.items() if k != 'logits'}
    near(f'ONNX Runtime, language model, call {call}', out['logits'], expected[target], 1e-5)
session = onnxruntime.InferenceSession(place('clf.onnx'))
lengths = np.array([len(d) for d in documents])
tokens = np.full((6, T), 1)
for row, d in zip(tokens, documents):
    row[:len(d)] = d.numpy()
theirs = session.run(['logits', 'probabilities'], {'tokens': tokens, 'lengths': lengths})
near('ONNX Runtime, classifier, the fixture', theirs[0], expected['clf_logits'], 1e-5)
near('ONNX Runtime, classifier, probabilities', theirs[1], expected['clf_probabilities'], 1e-5)
random.seed(1)
texts = [' '.join(f'w{random.randrange(52)}' for _ in range(random.choice((1, 2, 5, 11, 12, 13, 23, 24, 25, 60, 200)))) for _ in range(200)]
lines = place('texts.txt')
open(lines, 'w').write('\n'.join(texts) + '\n')
for name in ('clf', 'capped'):
    answers = [json.loads(line) for line in run('predict', '--model', place(name), '--input', lines)]
    ours = np.array([[a['probabilities'][f'class{c}'] for c in range(C)] for a in answers])
    index = {word: i for i, word in enumerate(json.load(open(place(f'{name}.vocab.json')))['words'])}
    rows = [[index.get(t, 0) for t in json.loads(line)] for line in run('tokenize', '--input', lines, '--print', '--vocab', os.path.join(place(name), 'vocab.json'))[:200]]
    lengths = np.array([len(r) for r in rows])
    tokens = np.full((len(rows), lengths.max()), 1)
    for row, r in zip(tokens, rows):
        row[:len(r)] = r
    session = onnxruntime.InferenceSession(place(f'{name}.onnx'))
    assert session.get_modelmeta().custom_metadata_map['labels'] == json.dumps([f'class{i}' for i in range(C)], separators=(',', ':'))
    theirs = session.run(['probabilities'], {'tokens': tokens, 'lengths': lengths})[0]
    near(f'ONNX Runtime, 200 texts, {name}', ours, theirs, 1e-5)
    alone = np.concatenate([session.run(['probabilities'], {'tokens': t[None, :n], 'lengths': np.array([n])})[0] for t, n in zip(tokens, lengths)])
    near(f'ONNX Runtime, one text at a time, {name}', theirs, alone, 1e-6)
print('all agree')
