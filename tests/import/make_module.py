"""awd_lstm_lm_module.pt: the values of awd_lstm_lm_state.pt as the whole module that awd-lstm-lm
saves, [model, criterion, optimizer]. Needs torch. usage: make_module.py DIR"""
import os, sys, types
import torch, torch.nn as nn

folder = sys.argv[1]
state = torch.load(os.path.join(folder, 'awd_lstm_lm_state.pt'), weights_only=True)
# awd-lstm-lm's own modules, by name and by what they hold
model_file, weight_drop = types.ModuleType('model'), types.ModuleType('weight_drop')
sys.modules.update({'model': model_file, 'weight_drop': weight_drop})


class WeightDrop(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        raw = lstm.weight_hh_l0
        del lstm._parameters['weight_hh_l0']
        lstm.register_parameter('weight_hh_l0_raw', nn.Parameter(raw.data))
        self.module, self.weights, self.dropout = lstm, ['weight_hh_l0'], .5


class RNNModel(nn.Module):
    def __init__(self, v, sizes):
        super().__init__()
        self.encoder, self.decoder = nn.Embedding(v, sizes[0]), nn.Linear(sizes[-1], v)
        self.decoder.weight = self.encoder.weight
        self.rnns = nn.ModuleList([WeightDrop(nn.LSTM(a, b)) for a, b in zip(sizes, sizes[1:])])


for cls, home in ((WeightDrop, weight_drop), (RNNModel, model_file)):
    cls.__module__, cls.__qualname__ = home.__name__, cls.__name__
    setattr(home, cls.__name__, cls)
v, e = state['encoder.weight'].shape
layers = max(int(name.split('.')[1]) for name in state if name.startswith('rnns.')) + 1
hidden = state['rnns.0.module.weight_hh_l0_raw'].shape[1]
model = RNNModel(v, [e] + [hidden] * (layers - 1) + [e])
model.load_state_dict(state)
optimizer = torch.optim.SGD(model.parameters(), lr=30)
torch.save([model, nn.CrossEntropyLoss(), optimizer], os.path.join(folder, 'awd_lstm_lm_module.pt'))
torch.save([model, nn.CrossEntropyLoss(), optimizer], os.path.join(folder, 'awd_lstm_lm_module_legacy.pt'),
           _use_new_zipfile_serialization=False)
