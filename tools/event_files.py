"""Event files of `ulmfit report --tensorboard`, read by the package `tensorboard` itself, beside
metrics.jsonl: every number of every update.
Needs tensorboard (and the protobuf that it brings). usage: tools/event_files.py ULMFIT"""
import json, math, os, subprocess, sys, tempfile
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.version import VERSION

ulmfit = os.path.abspath(sys.argv[1])
place = tempfile.mkdtemp()
data = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../docs/guide/src/data')


def run(*line):
    done = subprocess.run([ulmfit, *line, '--quiet', '--device', 'cpu'], capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr


def told(name):
    """By tag: the updates and values that metrics.jsonl has."""
    all = {}

    def add(tag, step, value):
        if value is not None and math.isfinite(value):
            all.setdefault(tag, []).append((step, np.float32(value)))

    for line in open(os.path.join(place, name, 'metrics.jsonl')):
        event = json.loads(line)
        kind = event['event']
        if kind == 'stage_started':
            groups = event['groups']
        elif kind == 'step':
            for tag, key in (('loss/train', 'loss'), ('loss/train_smoothed', 'smoothed_loss'), ('momentum', 'momentum'),
                             ('gradient/norm', 'gradient_norm')):
                add(tag, event['step'], event[key])
            add('gradient/scale', event['step'], event.get('gradient_scale', 1.))
            for group, rate in zip(groups, event['learning_rates']):
                add(f'rate/{group}', event['step'], rate)
        elif kind == 'layers':
            for tag, key in (('gradient_norm', 'gradients'), ('weight_norm', 'weights'), ('saturated_gates', 'saturated')):
                for group, value in zip(groups, event[key]):
                    add(f'{tag}/{group}', event['step'], value)
        elif kind == 'evaluated':
            for key, value in event.items():
                if key not in ('event', 'stage', 'epoch', 'step', 'split', 'seconds'):
                    add(f'{key}/{event["split"]}', event['step'], value)
    return all


run('pretrain', '--corpus', os.path.join(data, 'unlabelled.txt'), '--recipe', 'tiny', '--max-steps', '300', '--out', 'lm')
run('train-classifier', '--model', 'lm', '--train', os.path.join(data, 'train.csv'), '--test', os.path.join(data, 'test.csv'),
    '--epochs', '4', '--out', 'classifier')
run('report', 'lm', 'classifier', '--out', 'page.html', '--tensorboard', 'logs')
for name in ('lm', 'classifier'):
    # 0: keep every number
    read = EventAccumulator(os.path.join(place, 'logs', name), size_guidance={'scalars': 0, 'tensors': 0}).Reload()
    found = {}
    for tag in read.Tags()['scalars']:
        found[tag] = [(e.step, np.float32(e.value)) for e in read.Scalars(tag)]
    for tag in read.Tags()['tensors']:
        found[tag] = [(e.step, np.float32(e.tensor_proto.float_val[0])) for e in read.Tensors(tag)]
    expected = told(name)
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    for tag in expected:
        assert found[tag] == expected[tag], tag
    numbers = sum(map(len, found.values()))
    print(f'tensorboard {VERSION} reads {name}: {len(found)} tags, {numbers} numbers, all as in metrics.jsonl')
