"""A training step of the paper's language model by PyTorch: cuDNN's LSTM (without weight drop, which would only slow it), tied decoder, Adam.

Prints milliseconds a step and tokens a second: medians of repeated, synchronised steps.
"""
import argparse
import statistics
import time

import torch

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument(
    "--device", choices=["cuda", "cpu"], default="cuda", help="cpu runs tiny sizes, for trying out the script only: its times say nothing"
)
device = torch.device(parser.parse_args().device)
tiny = device.type == "cpu"
V, E, H, B, T, STEPS = (50, 8, 12, 4, 5, 3) if tiny else (30_000, 400, 1150, 64, 70, 30)
# true f32, as this program computes
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
torch.manual_seed(0)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(V, E)
        sizes = [(E, H), (H, H), (H, E)]
        self.layers = torch.nn.ModuleList(torch.nn.LSTM(i, o) for i, o in sizes)
        self.bias = torch.nn.Parameter(torch.zeros(V))

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(torch.nn.functional.dropout(x, 0.2))[0]
        return x @ self.embedding.weight.T + self.bias


model = Model().to(device)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
tokens = torch.randint(V, (T + 1, B), device=device)


def step():
    loss = torch.nn.functional.cross_entropy(model(tokens[:-1]).flatten(0, 1), tokens[1:].flatten())
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
name = "cpu" if tiny else torch.cuda.get_device_name()
median = statistics.median(times)
print(f"PyTorch {torch.__version__}, {name}: V{V} {E}-{H}-{H}-{E} B{B} T{T}")
print(f"ms a step: median {median:.3f}, from {min(times):.3f} to {max(times):.3f}; tokens a second {B * T / median * 1e3:.0f}")
