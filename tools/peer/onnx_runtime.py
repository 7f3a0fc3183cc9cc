"""Exported classifiers in ONNX Runtime: what they compute beside this program, and what its own
tool for 8 bits costs. On TREC-6: the folds of 300 labels as one file; a QRNN; a network of all
labels, as it is and quantised.
Needs numpy, onnx, onnxruntime. usage: tools/peer/onnx_runtime.py ULMFIT DATA_DIR OUT_DIR"""
import json, os, random, subprocess, sys
import numpy as np, onnx, onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

ulmfit, data, out = (os.path.abspath(path) for path in sys.argv[1:4])
train, test = (os.path.join(data, 'trec', name) for name in ('train_5500.label', 'TREC_10.label'))
os.makedirs(out, exist_ok=True)


def place(name):
    return os.path.join(out, name)


def run(*line):
    done = subprocess.run([ulmfit, *line, '--device', 'cpu', '--quiet'], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def made(name, *line):
    if not os.path.exists(place(name)):
        run(*line, '--out', place(name))
    return place(name)


# the questions, and texts of many of them
rows = [line.split(' ', 1) for line in open(test, encoding='latin-1')]
questions, classes = [text.strip() for _, text in rows], [label.split(':')[0] for label, _ in rows]
random.seed(1)
long = [' '.join(random.sample(questions, n)) for n in (2, 5, 9, 20, 40, 80, 150, 200)]
texts = place('texts.txt')
open(texts, 'w').write('\n'.join(questions + long) + '\n')


def ours(model):
    answers = [json.loads(line) for line in run('predict', '--model', model, '--input', texts, '--blend', 'off').splitlines()]
    return np.array([list(answer['probabilities'].values()) for answer in answers])


def theirs(path, vocabulary):
    """Probabilities, and the labels in their order."""
    index = {}
    for i, word in enumerate(json.load(open(vocabulary))['words']):
        index.setdefault(word, i)
    printed = run('tokenize', '--input', texts, '--print', '--vocab', vocabulary).splitlines()
    ids = [[index.get(word, 0) for word in json.loads(line)] for line in printed[:len(questions + long)]]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    labels = json.loads(session.get_modelmeta().custom_metadata_map['labels'])
    found = []
    for at in range(0, len(ids), 50):
        part = ids[at:at + 50]
        lengths = np.array([len(row) for row in part])
        tokens = np.ones((len(part), lengths.max()), dtype=np.int64)
        for row, some in zip(tokens, part):
            row[:len(some)] = some
        found.append(session.run(['probabilities'], {'tokens': tokens, 'lengths': lengths})[0])
    return np.concatenate(found), labels


def error(p, labels):
    wrong = sum(labels[row.argmax()] != known for row, known in zip(p, classes))
    return f'{100 * wrong / len(classes):.1f} %'


def compared(what, model, vocabulary):
    path = place(f'{os.path.basename(model)}.onnx')
    run('export', '--model', model, '--to', 'onnx', '--out', path, '--overwrite')
    onnx.checker.check_model(onnx.load(path), full_check=True)
    (found, labels), expected = theirs(path, vocabulary), ours(model)
    most = np.abs(found - expected).max()
    print(f'{what:44} {most:.1e} from predict --blend off (1e-5 is allowed); error {error(found, labels)}', flush=True)
    assert most <= 1e-5, what
    return path, found


small = ['--base', 'tiny', '--effort', 'quick']
folds = made('folds', 'run', '--train', train, '--labels', '300', *small)
networks = len([name for name in os.listdir(folds) if name.startswith('classifier')])
compared(f'{networks} networks of 300 labels, their mean', folds, os.path.join(folds, 'classifier/vocab.json'))
both = made('both', 'run', '--train', train, '--labels', '200', '--bidirectional', *small)
compared('networks of both directions, their mean', both, os.path.join(both, 'classifier/vocab.json'))
qrnn = made('qrnn-lm', 'finetune-lm', '--base', 'none', '--text', train, '--encoder', 'qrnn', '--recipe', 'tiny', '--max-steps', '50')
qrnn = made('qrnn', 'train-classifier', '--model', qrnn, '--train', train, '--recipe', 'tiny', '--max-steps', '200')
compared('a QRNN', qrnn, os.path.join(qrnn, 'vocab.json'))

model = made('all', 'run', '--train', train, '--base', 'english', '--effort', 'quick')
vocabulary = os.path.join(model, 'classifier/vocab.json')
path, plain = compared('a network of all labels', model, vocabulary)
print(f'  its file has {os.path.getsize(path) / 1e6:.1f} MB')
for what, settings in (('weights of 8 bits, a scale a tensor', {}), ('weights of 8 bits, a scale a channel', {'per_channel': True})):
    small = place('quantised.onnx')
    quantize_dynamic(path, small, weight_type=QuantType.QInt8, **settings)
    found, labels = theirs(small, vocabulary)
    moved, n = np.abs(found - plain)[:len(questions)], len(questions)
    other = sum(a.argmax() != b.argmax() for a, b in zip(found[:n], plain[:n]))
    print(f'{what:44} error {error(found, labels)}, {os.path.getsize(small) / 1e6:.1f} MB; of {n} questions {other} have another label; '
          f'probabilities differ by {moved.max():.3f} at most, {moved.mean():.4f} in the mean', flush=True)
