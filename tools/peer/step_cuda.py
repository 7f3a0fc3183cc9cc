"""A training step of the paper's language model by PyTorch: cuDNN's LSTM, tied decoder, fused Adam.

For every precision (f32 is true f32, as this program's; tf32 and bf16 by tensor cores), without weight drop and with it, which makes cuDNN lay its
weights out anew in every step: milliseconds a step and tokens a second, medians of repeated, synchronised steps. A variant that fails is named, and
the next one runs.
"""
import argparse
import statistics
import sys
import time
import warnings

import torch
from torch.nn import functional

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--device", choices=["cuda", "cpu"], default="cuda", help="cpu runs tiny sizes, for trying out the script only: its times say nothing"
)
parser.add_argument("--precision", choices=["f32", "tf32", "bf16"], nargs="+", default=["f32", "tf32", "bf16"])
arguments = parser.parse_args()
device = torch.device(arguments.device)
tiny = device.type == "cpu"
V, E, H, B, T, STEPS = (50, 8, 12, 4, 5, 3) if tiny else (30_000, 400, 1150, 64, 70, 30)
# weights that cuDNN has to lay out anew are what the second variant is about
warnings.filterwarnings("ignore", message=".*contiguous chunk.*")


class Model(torch.nn.Module):
    def __init__(self, weight_drop):
        super().__init__()
        self.weight_drop = weight_drop
        self.embedding = torch.nn.Embedding(V, E)
        sizes = [(E, H), (H, H), (H, E)]
        self.layers = torch.nn.ModuleList(torch.nn.LSTM(i, o) for i, o in sizes)
        self.bias = torch.nn.Parameter(torch.zeros(V))

    def recurrence(self, layer, x):
        if self.weight_drop == 0:
            return layer(x)[0]
        zero = x.new_zeros(1, x.shape[1], layer.hidden_size)
        dropped = functional.dropout(layer.weight_hh_l0, self.weight_drop)
        weights = [w.to(x.dtype) for w in (layer.weight_ih_l0, dropped, layer.bias_ih_l0, layer.bias_hh_l0)]
        # biases, layers, dropout between layers, training, bidirectional, batch first
        return torch.lstm(x, (zero, zero), weights, True, 1, 0.0, True, False, False)[0]

    def forward(self, tokens):
        x = self.embedding(tokens)
        if torch.is_autocast_enabled(device.type):
            x = x.to(torch.bfloat16)
        for layer in self.layers:
            x = self.recurrence(layer, functional.dropout(x, 0.2))
        return x @ self.embedding.weight.T + self.bias


def measure(precision, weight_drop):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.manual_seed(0)
    model = Model(weight_drop).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=not tiny)
    tokens = torch.randint(V, (T + 1, B), device=device)

    def step():
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(tokens[:-1]).flatten(0, 1)
            loss = functional.cross_entropy(logits, tokens[1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimiser.step()
        if not tiny:
            torch.cuda.synchronize()

    for _ in range(3):
        step()
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - start))
    median = statistics.median(times)
    return (
        f"median {median:.3f} ms a step, from {min(times):.3f} to {max(times):.3f}; {B * T / median * 1e3:.0f} tokens a second"
    )


name = "cpu" if tiny else torch.cuda.get_device_name()
cudnn = None if tiny else torch.backends.cudnn.version()
print(f"PyTorch {torch.__version__}, cuDNN {cudnn}, {name}: V{V} {E}-{H}-{H}-{E} B{B} T{T}")
failed = False
for precision in arguments.precision:
    for weight_drop in (0.0, 0.5):
        what = f"{precision}, weight drop {weight_drop}"
        try:
            print(f"{what}: {measure(precision, weight_drop)}", flush=True)
        except Exception as error:  # whatever it is: the next variant may run
            failed = True
            print(f"{what}: failed: {error}", flush=True)
sys.exit(failed)
