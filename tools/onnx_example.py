"""From a text to a label with an exported classifier, in ONNX Runtime.
usage: onnx_example.py CLASSIFIER.onnx ULMFIT VOCAB.json TEXT..
VOCAB.json: of the model directory. ULMFIT cuts texts into words as the model has learned them; a
program of its own has to follow docs/tokenizer.md, whose rules are named in the file's metadata."""
import json
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime

model, ulmfit, vocabulary, *texts = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
labels = json.loads(session.get_modelmeta().custom_metadata_map['labels'])
index = {}
for i, word in enumerate(json.load(open(vocabulary))['words']):
    index.setdefault(word, i)

# one document a line; each becomes a JSON list of words
with tempfile.NamedTemporaryFile('w', suffix='.txt') as file:
    file.write('\n'.join(text.replace('\n', ' ') for text in texts) + '\n')
    file.flush()
    line = [ulmfit, 'tokenize', '--input', file.name, '--print', '--vocab', vocabulary, '--quiet']
    printed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
documents = [json.loads(line) for line in printed.splitlines()[:len(texts)]]

# unknown words are 0; what follows a text is not read
lengths = np.array([len(words) for words in documents])
tokens = np.ones((len(documents), lengths.max()), dtype=np.int64)
for row, words in zip(tokens, documents):
    row[:len(words)] = [index.get(word, 0) for word in words]
(probabilities,) = session.run(['probabilities'], {'tokens': tokens, 'lengths': lengths})
for text, p in zip(texts, probabilities):
    print(f'{labels[p.argmax()]}\t{p.max():.3f}\t{text}')
