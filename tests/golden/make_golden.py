"""Golden fixtures for a ULMFiT / AWD-LSTM implementation, made with PyTorch (float64 and float32,
same inputs). Needs torch, fastai 2.8, safetensors. Checked against nn.LSTM, fastai's modules and
fastai's and torch's optimizers before anything is written. Names and shapes: README.md in OUTDIR
(written by this script; the committed one has its lines wrapped).
usage: python make_golden.py OUTDIR [--seed S] [--lstm T,B,I,H] [--qrnn T,B,I,H] [--lm V,E,H,T,B]
       [--classifier V,E,H,bptt,F1,C,len1,len2,...] [--sampled V,E,N,K]
       [--adaptive V,E,N,split1,split2,...] [--pool T,E,len1,len2,...] [--totals T1,T2,...]"""
import sys, os, math, json, warnings, argparse
warnings.filterwarnings('ignore')
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from safetensors.torch import save_file
def ints(t): return [int(x) for x in t.split(',')]
ap = argparse.ArgumentParser(); ap.add_argument('outdir'); ap.add_argument('--seed', type=int, default=0); ap.add_argument('--lstm', type=ints, default=[5, 3, 4, 6]); ap.add_argument('--qrnn', type=ints, default=[6, 3, 4, 5])
ap.add_argument('--lm', type=ints, default=[23, 6, 10, 7, 3]); ap.add_argument('--classifier', type=ints, default=[23, 6, 10, 4, 8, 5, 8, 8, 6, 5, 4, 3, 1])
ap.add_argument('--sampled', type=ints, default=[30, 5, 7, 8]); ap.add_argument('--adaptive', type=ints, default=[50, 6, 12, 10, 25]); ap.add_argument('--pool', type=ints, default=[9, 4, 7, 9, 1, 5, 2])
ap.add_argument('--totals', type=ints, default=[1, 7, 57, 100, 1234]); ARG = ap.parse_args()
OUT = ARG.outdir
os.makedirs(OUT, exist_ok=True); torch.set_num_threads(1)
DT = {'f64': torch.float64, 'f32': torch.float32}
doc = []
def gen(seed): g = torch.Generator(); g.manual_seed(seed+1000*ARG.seed); return g
def rnd(g, *s, scale=1.): return torch.randn(*s, generator=g, dtype=torch.float64).float().double()*1.0 if scale == 1. else (torch.randn(*s, generator=g, dtype=torch.float64)*scale).float().double()
def unif(g, a, *s): return (torch.rand(*s, generator=g, dtype=torch.float64)*2*a-a).float().double()   # every input is exactly representable in f32
def bern(g, p, *s): return (torch.rand(*s, generator=g) >= p).double()   # 0/1 keep mask
def scl(m, p): return m/(1-p)                                            # multiplicative mask: 0 or 1/(1-p)
def canonical(path):   # save_file writes the metadata in a random order: sorted, so that the same input gives the same file
    b = open(path, 'rb').read(); n = int.from_bytes(b[:8], 'little'); h = json.loads(b[8:8+n]); h = {'__metadata__': dict(sorted(h.pop('__metadata__').items())), **dict(sorted(h.items(), key=lambda x: x[1]['data_offsets']))}
    j = json.dumps(h, separators=(',', ':')).encode(); j += b' '*(-len(j) % 8); open(path, 'wb').write(len(j).to_bytes(8, 'little')+j+b[8+n:])
def save(name, dn, d, meta):
    d = {k: v.detach().contiguous().clone() for k, v in d.items()}
    fn = f'{name}_{dn}.safetensors'; meta = {'case': name, 'dtype': dn, 'seed': ARG.seed, **meta}; save_file(d, os.path.join(OUT, fn), metadata={k: str(v) for k, v in meta.items()}); canonical(os.path.join(OUT, fn)); os.chmod(os.path.join(OUT, fn), 0o644)
    doc.append((name, dn, fn, {k: (str(v.dtype).replace('torch.', ''), list(v.shape)) for k, v in d.items()}, meta, os.path.getsize(os.path.join(OUT, fn))))
def close(a, b, dt, what):
    tol = 1e-11 if dt == torch.float64 else 2e-5
    e = (a-b).abs().max().item(); s = max(1., b.abs().max().item())
    assert e <= tol*s, (what, e)

# -------- LSTM written out (gate order
# i,f,g,o; time-major)
def lstm(x, h, c, wi, wh, bi, bh, want=False):
    ys, gs, cs = [], [], []
    for t in range(x.shape[0]):
        z = x[t] @ wi.t() + bi + h @ wh.t() + bh
        i, f, g, o = z.chunk(4, 1); i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c = f*c + i*g; h = o*c.tanh()
        ys.append(h); cs.append(c); gs.append(torch.cat([i, f, g, o], 1))
    y = torch.stack(ys)
    return (y, h, c, torch.stack(gs), torch.stack(cs)) if want else (y, h, c)

def case_lstm(dn, dt):
    T, B, I, H = ARG.lstm; p = 0.5; g = gen(1); k = 1/math.sqrt(H)
    inp = dict(x=rnd(g, T, B, I), h0=rnd(g, B, H, scale=.5), c0=rnd(g, B, H, scale=.5), w_ih=unif(g, k, 4*H, I), w_hh=unif(g, k, 4*H, H),
               b_ih=unif(g, k, 4*H), b_hh=unif(g, k, 4*H))
    up = dict(gy=rnd(g, T, B, H), gh=rnd(g, B, H), gc=rnd(g, B, H)); mask = scl(bern(g, p, 4*H, H), p)
    v = {n: t.to(dt).requires_grad_() for n, t in inp.items()}; up = {n: t.to(dt) for n, t in up.items()}; mask = mask.to(dt)
    whd = v['w_hh']*mask; whd.retain_grad()
    y, h, c, gates, cs = lstm(v['x'], v['h0'], v['c0'], v['w_ih'], whd, v['b_ih'], v['b_hh'], True)
    loss = (y*up['gy']).sum()+(h*up['gh']).sum()+(c*up['gc']).sum(); loss.backward()
    # check against nn.LSTM
    m = nn.LSTM(I, H).to(dt)
    with torch.no_grad(): m.weight_ih_l0.copy_(v['w_ih']); m.weight_hh_l0.copy_(whd); m.bias_ih_l0.copy_(v['b_ih']); m.bias_hh_l0.copy_(v['b_hh'])
    x2 = v['x'].detach().clone().requires_grad_(); y2, (h2, c2) = m(x2, (v['h0'].detach()[None], v['c0'].detach()[None]))
    ((y2*up['gy']).sum()+(h2[0]*up['gh']).sum()+(c2[0]*up['gc']).sum()).backward()
    close(y, y2, dt, 'y'); close(v['x'].grad, x2.grad, dt, 'dx'); close(whd.grad, m.weight_hh_l0.grad, dt, 'dwhh'); close(v['b_ih'].grad, m.bias_ih_l0.grad, dt, 'db')
    d = {**{n: t for n, t in v.items()}, **up, 'mask_hh': mask, 'w_hh_dropped': whd, 'y': y, 'h_n': h, 'c_n': c, 'gates': gates, 'c_all': cs, 'loss': loss.reshape(1)}
    d.update({'grad.'+n: t.grad for n, t in v.items()}); d['grad.w_hh_dropped'] = whd.grad
    save('lstm', dn, d, dict(T=T, B=B, I=I, H=H, weight_p=p, gate_order='i,f,g,o'))

# -------- QRNN (Bradbury et al. 2017; gates
# z,f,o; f is the share of the new, as in awd-lstm-lm)
def qrnn(x, before, c, w, b, keep):
    """x [T,B,I]; w [3H,I] or, with a window of two, [3H,2I] for [x_t, x_t-1], x_-1 = before. keep [T,B,H] or a number: what the gates f are multiplied by."""
    source = x if w.shape[1] == x.shape[2] else torch.cat([x, torch.cat([before[None], x[:-1]])], 2)
    z, f, o = (source @ w.t()+b).chunk(3, 2); z, f, o = z.tanh(), f.sigmoid()*keep, o.sigmoid(); cs = []
    for t in range(x.shape[0]): c = f[t]*z[t]+(1-f[t])*c; cs.append(c)
    return o*torch.stack(cs), c, torch.stack(cs)

def case_qrnn(dn, dt):
    T, B, I, H = ARG.qrnn; pw, pz = .4, .3; g = gen(8); k = 1/math.sqrt(I)
    inp = dict(x=rnd(g, T, B, I), before=rnd(g, B, I), c0=rnd(g, B, H, scale=.5), w=unif(g, 2*k, 3*H, 2*I), b=unif(g, k, 3*H))
    up = {n: t.to(dt) for n, t in dict(gy=rnd(g, T, B, H), gc=rnd(g, B, H)).items()}; mask = scl(bern(g, pw, 3*H, 2*I), pw).to(dt); keep = bern(g, pz, T, B, H).to(dt)
    v = {n: t.to(dt).requires_grad_() for n, t in inp.items()}
    y, c, cs = qrnn(v['x'], v['before'], v['c0'], v['w']*mask, v['b'], keep); loss = (y*up['gy']).sum()+(c*up['gc']).sum(); loss.backward()
    # check: the paper's form, a convolution over time, and its closed sum: c_t = sum_s f_s z_s
    # prod_{r>s}(1-f_r) + c0 prod(1-f)
    q = {n: t.detach().to(dt).clone().requires_grad_() for n, t in inp.items()}; wm = q['w']*mask; kernel = torch.stack([wm[:, I:], wm[:, :I]], 2)
    a = F.conv1d(torch.cat([q['before'][None], q['x']]).permute(1, 2, 0), kernel, q['b']).permute(2, 0, 1); z, f, o = a[..., :H].tanh(), a[..., H:2*H].sigmoid()*keep, a[..., 2*H:].sigmoid()
    c2 = torch.stack([sum((f[s]*z[s]*torch.stack([1-f[r] for r in range(s+1, t+1)]+[torch.ones_like(f[0])]).prod(0) for s in range(t+1)), q['c0']*(1-f[:t+1]).prod(0)) for t in range(T)])
    ((o*c2*up['gy']).sum()+(c2[-1]*up['gc']).sum()).backward(); close(o*c2, y, dt, 'qrnn y'); close(c2, cs, dt, 'qrnn c'); [close(q[n].grad, v[n].grad, dt, 'qrnn d'+n) for n in v]
    d = {**v, **up, 'mask_w': mask, 'zoneout': keep, 'y': y, 'c_n': c, 'c_all': cs, 'loss': loss.reshape(1), **{'grad.'+n: t.grad for n, t in v.items()}}
    with torch.no_grad():
        ye, ce, _ = qrnn(v['x'], v['before'], v['c0'], v['w'], v['b'], 1-pz); y1, c1, _ = qrnn(v['x'], None, v['c0'], v['w'][:, :I].contiguous(), v['b'], 1.); d.update({'eval.y': ye, 'eval.c_n': ce, 'window1.y': y1, 'window1.c_n': c1})
    save('qrnn', dn, d, dict(T=T, B=B, I=I, H=H, window=2, weight_p=pw, zoneout_p=pz, gate_order='z,f,o'))

def case_qrnn_lm(dn, dt):
    V, E, H, T, B = ARG.lm; alpha, beta = 2., 1.; ps = dict(emb_row=.3, input=.4, hidden=.3, output=.3, weight=.4, zoneout=.25); g = gen(9); P0 = {'emb': unif(g, 1., V, E)}
    sizes = [(2*E, H), (H, H), (H, E)]; [P0.update({f'rnn{l}.w': unif(g, .9, 3*n, i), f'rnn{l}.b': unif(g, .9, 3*n)}) for l, (i, n) in enumerate(sizes)]; P0['dec_bias'] = unif(g, .2, V)
    stream = torch.randint(2, V, (B, 2*T+1), generator=g); P = {n: t.to(dt).requires_grad_() for n, t in P0.items()}; d = {'stream': stream, **{'param.'+n: t for n, t in P.items()}}
    fresh = lambda: (torch.zeros(B, E, dtype=dt), [torch.zeros(B, n, dtype=dt) for _, n in sizes])
    def encode(tok, state, M):
        x = (F.embedding(tok, P['emb'] if M is None else P['emb']*M['emb_row'])*(1 if M is None else M['input'])).transpose(0, 1); last, new = x[-1], []
        for l in range(3):
            w = P[f'rnn{l}.w'] if M is None else P[f'rnn{l}.w']*M[f'rnn{l}.w']; keep = 1-ps['zoneout'] if M is None else M[f'zoneout{l}'].transpose(0, 1)
            x, c, _ = qrnn(x, state[0], state[1][l], w, P[f'rnn{l}.b'], keep); new.append(c)
            if l < 2 and M is not None: x = x*M[f'hidden{l}'].transpose(0, 1)
        return x.transpose(0, 1), (last.detach(), [c.detach() for c in new])
    state = fresh()
    for w in (1, 2):
        tok, tgt = stream[:, (w-1)*T:w*T], stream[:, (w-1)*T+1:w*T+1]; q = f'w{w}.'
        M = {'emb_row': scl(bern(g, ps['emb_row'], V, 1), ps['emb_row']), 'input': scl(bern(g, ps['input'], B, 1, E), ps['input']), 'output': scl(bern(g, ps['output'], B, 1, E), ps['output'])}
        for l, (i, n) in enumerate(sizes):
            M[f'rnn{l}.w'] = scl(bern(g, ps['weight'], 3*n, i), ps['weight']); M[f'zoneout{l}'] = bern(g, ps['zoneout'], B, T, n)
            if l < 2: M[f'hidden{l}'] = scl(bern(g, ps['hidden'], B, 1, H), ps['hidden'])
        M = {n: t.to(dt) for n, t in M.items()}
        for t in P.values(): t.grad = None
        before = state; raw, state = encode(tok, before, M); dp = raw*M['output']; logits = dp @ P['emb'].t()+P['dec_bias']; logits.retain_grad()
        ce = F.cross_entropy(logits.reshape(-1, V), tgt.reshape(-1)); ar = alpha*dp.pow(2).mean(); tar = beta*(raw[:, 1:]-raw[:, :-1]).pow(2).mean(); loss = ce+ar+tar; loss.backward()
        d.update({q+'mask.'+n: t for n, t in M.items()}); d.update({q+'grad.'+n: t.grad for n, t in P.items()}); d.update({q+'raw_out': raw, q+'dropped_out': dp, q+'logits': logits, q+'grad_logits': logits.grad, q+'loss_ce': ce.reshape(1), q+'loss_ar': ar.reshape(1), q+'loss_tar': tar.reshape(1), q+'loss': loss.reshape(1)})
        for io, (last, cs) in (('in', before), ('out', state)): d.update({q+'last_'+io: last, **{q+f'c_{io}{l}': c for l, c in enumerate(cs)}})
    with torch.no_grad():
        state = fresh()
        for w in (1, 2):
            raw, state = encode(stream[:, (w-1)*T:w*T], state, None); lg = raw @ P['emb'].t()+P['dec_bias']; d[f'eval.w{w}.logits'] = lg; d[f'eval.w{w}.loss_ce'] = F.cross_entropy(lg.reshape(-1, V), stream[:, (w-1)*T+1:w*T+1].reshape(-1)).reshape(1)
    save('awd_qrnn', dn, d, dict(V=V, E=E, H=H, layers=3, window=2, bptt=T, bs=B, alpha=alpha, beta=beta, **{'p_'+k: v for k, v in ps.items()}))

# ---------------------------------------------------------------- AWD-LSTM encoder / LM
def make_params(g, V, E, H, L=3):
    P = {'emb': unif(g, 1., V, E)}
    for l in range(L):
        ni, nh = (E if l == 0 else H), (E if l == L-1 else H); k = .9
        P.update({f'rnn{l}.w_ih': unif(g, k, 4*nh, ni), f'rnn{l}.w_hh': unif(g, k, 4*nh, nh), f'rnn{l}.b_ih': unif(g, k, 4*nh), f'rnn{l}.b_hh': unif(g, k, 4*nh)})
    return P
def encode(P, tok, hid, M=None, pad=None):
    """tok [B,T] -> raw output [B,T,E], new hidden. M: masks or None (eval)."""
    ew = P['emb'] if M is None else P['emb']*M['emb_row']
    x = F.embedding(tok, ew, padding_idx=pad)
    if M is not None: x = x*M['input']
    new = []
    for l in range(3):
        wh = P[f'rnn{l}.w_hh'] if M is None else P[f'rnn{l}.w_hh']*M[f'rnn{l}.w_hh']
        y, h, c = lstm(x.transpose(0, 1), hid[l][0], hid[l][1], P[f'rnn{l}.w_ih'], wh, P[f'rnn{l}.b_ih'], P[f'rnn{l}.b_hh'])
        x = y.transpose(0, 1); new.append((h, c))
        if l < 2 and M is not None: x = x*M[f'hidden{l}']
    return x, new
def fastai_copy(model0, P):
    with torch.no_grad():
        model0.encoder.weight.copy_(P['emb'])
        for l in range(3):
            r = model0.rnns[l]; r.weight_hh_l0_raw.copy_(P[f'rnn{l}.w_hh']); r.module.weight_ih_l0.copy_(P[f'rnn{l}.w_ih'])
            r.module.bias_ih_l0.copy_(P[f'rnn{l}.b_ih']); r.module.bias_hh_l0.copy_(P[f'rnn{l}.b_hh'])
def fastai_grads(m0):
    G = {'emb': m0.encoder.weight.grad}
    for l in range(3):
        r = m0.rnns[l]; G.update({f'rnn{l}.w_hh': r.weight_hh_l0_raw.grad, f'rnn{l}.w_ih': r.module.weight_ih_l0.grad, f'rnn{l}.b_ih': r.module.bias_ih_l0.grad, f'rnn{l}.b_hh': r.module.bias_hh_l0.grad})
    return G

def case_lm(dn, dt):
    from fastai.text.all import get_language_model, AWD_LSTM, RNNDropout
    V, E, H, T, B = ARG.lm; alpha, beta = 2., 1.
    ps = dict(emb_row=.3, input=.4, hidden=.3, output=.3, weight=.5)    # strong, so that every mask has zeros
    g = gen(2); P0 = make_params(g, V, E, H); P0['dec_bias'] = unif(g, .2, V)
    stream = torch.randint(2, V, (B, 2*T+1), generator=g)
    d = {'stream': stream}; P = {n: t.to(dt).requires_grad_() for n, t in P0.items()}; d.update({'param.'+n: t for n, t in P.items()})
    zeros = lambda: [(torch.zeros(B, n, dtype=dt), torch.zeros(B, n, dtype=dt)) for n in (H, H, E)]
    fm = get_language_model(AWD_LSTM, V, dict(emb_sz=E, n_hid=H, n_layers=3, pad_token=1, bidir=False, output_p=.5, hidden_p=.5, input_p=.5, embed_p=.5, weight_p=.5, tie_weights=True, out_bias=True)).to(dt)
    fastai_copy(fm[0], P)
    with torch.no_grad(): fm[1].decoder.bias.copy_(P['dec_bias'])
    fm.train(); fm[0].bs = B; fm[0].reset(); hid = zeros()
    for w in (1, 2):
        tok, tgt = stream[:, (w-1)*T:w*T], stream[:, (w-1)*T+1:w*T+1]
        M = {'emb_row': scl(bern(g, ps['emb_row'], V, 1), ps['emb_row']), 'input': scl(bern(g, ps['input'], B, 1, E), ps['input'])}
        for l in range(3):
            nh = H if l < 2 else E; M[f'rnn{l}.w_hh'] = scl(bern(g, ps['weight'], 4*nh, nh), ps['weight'])
            if l < 2: M[f'hidden{l}'] = scl(bern(g, ps['hidden'], B, 1, H), ps['hidden'])
        M['output'] = scl(bern(g, ps['output'], B, 1, E), ps['output']); M = {n: t.to(dt) for n, t in M.items()}
        for t in P.values(): t.grad = None
        hid_in = hid; raw, hid = encode(P, tok, hid, M); dp = raw*M['output']
        logits = dp @ P['emb'].t() + P['dec_bias']; logits.retain_grad()
        ce = F.cross_entropy(logits.reshape(-1, V), tgt.reshape(-1)); ar = alpha*dp.pow(2).mean(); tar = beta*(raw[:, 1:]-raw[:, :-1]).pow(2).mean()
        loss = ce+ar+tar; loss.backward(); hid = [(h.detach(), c.detach()) for h, c in hid]
        # ---- the same window through fastai's own modules, its random masks replaced by ours
        a = fm[0]; seq = iter([M['input'], M['hidden0'], M['hidden1'], M['output']])
        orig = RNNDropout.forward; RNNDropout.forward = lambda self, x: x*next(seq)
        import fastai.text.models.awdlstm as al; od = al.dropout_mask; al.dropout_mask = lambda x, sz, p: M['emb_row']
        al.F = type('FF', (), dict(dropout=staticmethod(lambda w, p: w*next(ws)), embedding=F.embedding)); ws = iter([M[f'rnn{l}.w_hh'] for l in range(3)])
        fm.zero_grad(); lg, fraw, fdp = fm(tok); al.F = F; al.dropout_mask = od; RNNDropout.forward = orig
        fl = F.cross_entropy(lg.reshape(-1, V), tgt.reshape(-1)) + alpha*fdp.pow(2).mean() + beta*(fraw[:, 1:]-fraw[:, :-1]).pow(2).mean(); fl.backward()
        close(lg, logits, dt, 'logits'); close(fl, loss, dt, 'loss'); FG = fastai_grads(a); FG['dec_bias'] = fm[1].decoder.bias.grad
        for n in FG: close(FG[n], P[n].grad, dt, n)
        q = f'w{w}.'
        d.update({q+'mask.'+n: t for n, t in M.items()}); d.update({q+'grad.'+n: t.grad for n, t in P.items()})
        d.update({q+'raw_out': raw, q+'dropped_out': dp, q+'logits': logits, q+'grad_logits': logits.grad, q+'loss_ce': ce.reshape(1), q+'loss_ar': ar.reshape(1), q+'loss_tar': tar.reshape(1), q+'loss': loss.reshape(1)})
        for l in range(3): d.update({q+f'h_in{l}': hid_in[l][0], q+f'c_in{l}': hid_in[l][1], q+f'h_out{l}': hid[l][0], q+f'c_out{l}': hid[l][1]})
    with torch.no_grad():   # eval: no dropout, state carried over the two windows
        hid = zeros()
        for w in (1, 2):
            raw, hid = encode(P, stream[:, (w-1)*T:w*T], hid); lg = raw @ P['emb'].t() + P['dec_bias']
            d[f'eval.w{w}.logits'] = lg; d[f'eval.w{w}.loss_ce'] = F.cross_entropy(lg.reshape(-1, V), stream[:, (w-1)*T+1:w*T+1].reshape(-1)).reshape(1)
    save('awd_lm', dn, d, dict(V=V, E=E, H=H, layers=3, bptt=T, bs=B, alpha=alpha, beta=beta, **{'p_'+k: v for k, v in ps.items()}))

# ---------------------------------------------------------------- classifier
def case_clas(dn, dt):
    from fastai.text.all import get_text_classifier, AWD_LSTM
    V, E, H, bptt, F1, C = ARG.classifier[:6]; lens = sorted(ARG.classifier[6:], reverse=True); B = len(lens); T = lens[0]; pad = 1   # T must be a multiple of bptt
    g = gen(3); P0 = make_params(g, V, E, H)
    P0.update({'bn1.weight': 1+unif(g, .3, 3*E), 'bn1.bias': unif(g, .3, 3*E), 'lin1.weight': unif(g, .4, F1, 3*E), 'lin1.bias': torch.zeros(F1).double(),
               'bn2.weight': 1+unif(g, .3, F1), 'bn2.bias': unif(g, .3, F1), 'lin2.weight': unif(g, .4, C, F1), 'lin2.bias': torch.zeros(C).double()})
    P = {n: t.float().to(dt).requires_grad_() for n, t in P0.items()}
    docs = [torch.randint(2, V, (n,), generator=g) for n in lens]; y = torch.randint(0, C, (B,), generator=g)
    tail = torch.full((B, T), pad); fa = torch.full((B, T), pad)
    for i, x in enumerate(docs):
        tail[i, :len(x)] = x; k = ((T-len(x))//bptt)*bptt; fa[i, k:k+len(x)] = x      # fastai pad_input_chunk layout
    dm1, dm2 = scl(bern(g, .4, B, 3*E), .4).to(dt), scl(bern(g, .25, B, F1), .25).to(dt)
    L = torch.tensor(lens)
    def run(detach):
        hid = [(torch.zeros(B, n, dtype=dt), torch.zeros(B, n, dtype=dt)) for n in (H, H, E)]; outs = []
        for k in range(0, T, bptt):
            o, hid = encode(P, tail[:, k:k+bptt], hid, None, pad); outs.append(o)
            if detach: hid = [(h.detach(), c.detach()) for h, c in hid]
        out = torch.cat(outs, 1); out.retain_grad(); msk = torch.arange(T)[None] >= L[:, None]
        last = out[torch.arange(B), L-1]; mx = out.masked_fill(msk[..., None], -float('inf')).max(1)[0]
        mean = out.masked_fill(msk[..., None], 0).sum(1)/L[:, None].to(dt)
        pooled = torch.cat([last, mx, mean], 1); pooled.retain_grad()
        s = {}
        def bn(x, n):
            mu, var = x.mean(0), x.var(0, unbiased=False); s[n+'.batch_mean'], s[n+'.batch_var'] = mu, var
            s[n+'.running_mean'] = .1*mu; s[n+'.running_var'] = .9*torch.ones_like(var)+.1*x.var(0, unbiased=True)
            return (x-mu)/(var+1e-5).sqrt()*P[n+'.weight']+P[n+'.bias']
        x1 = bn(pooled, 'bn1'); z1 = (x1*dm1) @ P['lin1.weight'].t()+P['lin1.bias']; r = z1.relu()
        x2 = bn(r, 'bn2'); lg = (x2*dm2) @ P['lin2.weight'].t()+P['lin2.bias']
        loss = F.cross_entropy(lg, y)
        for t in P.values(): t.grad = None
        loss.backward()
        return dict(enc_out=out, pooled=pooled, bn1_out=x1, lin1_out=z1, bn2_out=x2, logits=lg, loss=loss.reshape(1), **{'stat.'+k: v for k, v in s.items()}), {n: t.grad.clone() for n, t in P.items()}, out.grad.clone(), pooled.grad.clone()
    R, G, gout, gp = run(True)
    # ---- the same through fastai (chunk-aligned front padding, its hidden state is detached
    # between chunks)
    m = get_text_classifier(AWD_LSTM, V, C, seq_len=bptt, config=dict(emb_sz=E, n_hid=H), drop_mult=0., lin_ftrs=[F1], ps=[0.], pad_idx=pad).to(dt); m.train()
    fastai_copy(m[0].module, P); ly = m[1].layers
    bns = [q for q in ly.modules() if isinstance(q, nn.BatchNorm1d)]; lins = [q for q in ly.modules() if isinstance(q, nn.Linear)]
    with torch.no_grad():
        for q, n in zip(bns, ('bn1', 'bn2')): q.weight.copy_(P[n+'.weight']); q.bias.copy_(P[n+'.bias'])
        for q, n in zip(lins, ('lin1', 'lin2')): q.weight.copy_(P[n+'.weight'])
    h1 = bns[0].register_forward_hook(lambda m_, i, o: o*dm1); h2 = bns[1].register_forward_hook(lambda m_, i, o: o*dm2)
    lg, fo, _ = m(fa); fl = F.cross_entropy(lg, y); fl.backward(); FG = fastai_grads(m[0].module)
    for q, n in zip(bns, ('bn1', 'bn2')): FG[n+'.weight'] = q.weight.grad; FG[n+'.bias'] = q.bias.grad; close(q.running_var, R[f'stat.{n}.running_var'], dt, n)
    for q, n in zip(lins, ('lin1', 'lin2')): FG[n+'.weight'] = q.weight.grad
    close(lg, R['logits'], dt, 'clas logits'); [close(FG[n], G[n], dt, n) for n in FG]
    R2, G2, _, _ = run(False)
    with torch.no_grad():   # eval-mode head: running stats after the step above
        bnE = lambda x, n: (x-R[f'stat.{n}.running_mean'])/(R[f'stat.{n}.running_var']+1e-5).sqrt()*P[n+'.weight']+P[n+'.bias']
        ev = bnE((bnE(R['pooled'], 'bn1') @ P['lin1.weight'].t()+P['lin1.bias']).relu(), 'bn2') @ P['lin2.weight'].t()+P['lin2.bias']
    d = {'tokens_tail_pad': tail, 'tokens_fastai_pad': fa, 'lengths': L, 'labels': y, 'mask.drop1': dm1, 'mask.drop2': dm2, **{'param.'+n: t for n, t in P.items()}, **R,
         'grad.enc_out': gout, 'grad.pooled': gp, **{'grad.'+n: t for n, t in G.items()}, **{'grad_full_bptt.'+n: t for n, t in G2.items() if n.startswith(('emb', 'rnn'))}, 'eval.logits': ev}
    save('classifier', dn, d, dict(V=V, E=E, H=H, layers=3, bptt=bptt, T=T, B=B, hidden=F1, classes=C, pad=pad, bn_eps=1e-5, bn_momentum=.1, drop1_p=.4, drop2_p=.25))

# ---------------------------------------------------------------- optimizers
def case_opt(dn, dt):
    from fastai.optimizer import Adam, SGD
    g = gen(4); p0 = rnd(g, 4, 3).to(dt); gr = rnd(g, 5, 4, 3, scale=.5).to(dt); lrs = torch.tensor([.01, .02, .03, .02, .01], dtype=dt); moms = torch.tensor([.8, .75, .7, .75, .8], dtype=dt)
    d = {'p0': p0, 'grads': gr, 'lrs': lrs, 'moms': moms}
    def traj(mk, name, state=(), sched=False, msched=False):
        p = nn.Parameter(p0.clone()); o = mk(p); ps = []; st = {s: [] for s in state}
        for t in range(5):
            if sched: o.set_hyper('lr', lrs[t].item()) if hasattr(o, 'set_hyper') else o.param_groups[0].update(lr=lrs[t].item())
            if msched: o.set_hyper('mom', moms[t].item())
            p.grad = gr[t].clone(); o.step(); ps.append(p.detach().clone())
            for s in state: st[s].append(torch.as_tensor(o.state[p][s]).to(dt).clone())
        d[name+'.p'] = torch.stack(ps)
        for s in state: d[name+'.'+s] = torch.stack(st[s])
        return torch.stack(ps)
    traj(lambda p: Adam([p], lr=.01, mom=.7, sqr_mom=.99, eps=1e-5, wd=.01), 'adam', ('grad_avg', 'sqr_avg'))
    traj(lambda p: Adam([p], lr=.01, mom=.7, sqr_mom=.99, eps=1e-8, wd=0.), 'adam_nowd_eps1e-8')
    traj(lambda p: Adam([p], lr=.01, mom=.7, sqr_mom=.99, eps=1e-5, wd=.01), 'adam_sched', (), True, True)
    ref = traj(lambda p: torch.optim.AdamW([p], lr=.01, betas=(.7, .99), eps=1e-5, weight_decay=.01), 'tmp')
    close(d.pop('tmp.p'), d['adam.p'], dt, 'adamw'); assert ref is not None
    traj(lambda p: SGD([p], lr=.5, wd=1e-3), 'sgd_decoupled_wd')
    a = traj(lambda p: SGD([p], lr=.5, wd=1e-3, decouple_wd=False), 'sgd_l2'); b = traj(lambda p: torch.optim.SGD([p], lr=.5, weight_decay=1e-3), 'tmp'); close(a, b, dt, 'sgd'); d.pop('tmp.p')
    traj(lambda p: SGD([p], lr=.1, mom=.9), 'sgd_mom0.9')
    traj(lambda p: torch.optim.ASGD([p], lr=.5, lambd=0., t0=0, weight_decay=1e-3), 'asgd', ('ax',))
    close(d['asgd.p'], a, dt, 'asgd=sgd path'); d['asgd.mean_of_iterates'] = d['asgd.p'].cumsum(0)/torch.arange(1, 6, dtype=dt)[:, None, None]
    gs = [rnd(g, 3, 2).to(dt), rnd(g, 5).to(dt)]; ps = [nn.Parameter(torch.zeros_like(x)) for x in gs]
    for p, x in zip(ps, gs): p.grad = x.clone()
    n = nn.utils.clip_grad_norm_(ps, .25); d.update({'clip.g0': gs[0], 'clip.g1': gs[1], 'clip.norm': n.reshape(1), 'clip.out0': ps[0].grad, 'clip.out1': ps[1].grad})
    # NT-ASGD trigger as in awd-lstm-lm main.py: checked after each validation, before the loss is
    # appended
    vl = [5.0, 4.8, 4.7, 4.72, 4.69, 4.71, 4.70, 4.695, 4.692, 4.691, 4.7]; nonmono = 5; hist = []; trig = -1
    for t, v in enumerate(vl):
        if trig < 0 and len(hist) > nonmono and v > min(hist[:-nonmono]): trig = t
        hist.append(v)
    d.update({'nt.val_losses': torch.tensor(vl, dtype=dt), 'nt.trigger_index': torch.tensor([trig])})
    save('optim', dn, d, dict(adam='lr .01 beta1 .7 beta2 .99 eps 1e-5 wd .01 decoupled', sgd='lr .5 wd 1e-3', sgd_mom='lr .1 mom .9 wd 0 (no dampening)', asgd='lr .5 lambd 0 t0 0 wd 1e-3 (L2)', clip_max_norm=.25, nonmono=nonmono))

def stlr(t, T, cut_frac=.1, ratio=32., lr_max=.01):
    cut = math.floor(T*cut_frac); p = t/cut if t < cut else 1-(t-cut)/(cut*(1/cut_frac-1))
    return lr_max*(1+p*(ratio-1))/ratio
def case_stlr(dn, dt):
    d = {f'lr_T{T}': torch.tensor([stlr(t, T) for t in range(T)], dtype=dt) for T in (100, 57, 1234)}
    d['lr_T100_cut0.25_ratio20_max0.004'] = torch.tensor([stlr(t, 100, .25, 20., .004) for t in range(100)], dtype=dt)
    save('stlr', dn, d, dict(cut_frac=.1, ratio=32, lr_max=.01))

# ---------------------------------------------------------------- softmax variants
def case_sampled(dn, dt):
    V, E, N, K = ARG.sampled; assert 0 < K < V-2; g = gen(5)
    counts = torch.floor(200./torch.arange(1, V+1).double()); counts[1] = 0; p = (counts/counts.sum()).float().double()   # Zipfian unigram; the pad row (1) has probability 0
    u = (torch.rand(V, generator=g, dtype=torch.float64)*(1-2e-6)+1e-6).float().double(); keys = -u.log()/(p+1e-10); order = keys.argsort(); neg = order[:K]
    assert keys[order[K]] > keys[order[K-1]]*(1+1e-4) and 1 not in neg.tolist(), 'the K-th key must be clear in f32 too: take another seed'
    inp = dict(hidden=rnd(g, N, E), weight=unif(g, 1., V, E), bias=unif(g, .5, V)); y = torch.randint(2, V, (N,), generator=g)
    y[0] = neg[0]; y[1] = order[K+1] if order[K+1] != 1 else order[K]; y[N-1] = y[1]       # a target that is also a negative, one that is not, a target twice
    d = dict(unigram=p.to(dt), uniforms=u.to(dt), keys=-u.to(dt).log()/(p.to(dt)+1e-10), negatives=neg, targets=y, **{n: t.to(dt) for n, t in inp.items()})
    assert d['keys'].argsort()[:K].tolist() == neg.tolist()
    for q, names in (('plain', ('hidden', 'weight')), ('biased', ('hidden', 'weight', 'bias'))):
        v = {n: inp[n].to(dt).clone().requires_grad_() for n in names}; b = v.get('bias', torch.zeros(V, dtype=dt))
        s_neg = v['hidden'] @ v['weight'][neg].t()+b[neg]; s_y = (v['hidden']*v['weight'][y]).sum(1)+b[y]; m = torch.maximum(s_neg.max().detach(), s_y.max().detach())
        rows = ((s_y-m).exp()+(2*(s_neg-m).exp()).sum(1)).log()+m-s_y; loss = rows.mean(); loss.backward()
        # check: cross-entropy of [s_y, s_neg + log 2] with class 0, whose gradient is softmax minus
        # one-hot, scattered by hand
        with torch.no_grad():
            h, w = inp['hidden'].to(dt), inp['weight'].to(dt); ids = torch.cat([y[:, None], neg[None].expand(N, K)], 1); lg = torch.einsum('ne,nke->nk', h, w[ids])+b[ids]; lg[:, 1:] += math.log(2)
            close(F.cross_entropy(lg, torch.zeros(N, dtype=torch.long)), loss, dt, 'sampled loss'); ds = lg.softmax(1); ds[:, 0] -= 1; ds /= N
            close(torch.einsum('nk,nke->ne', ds, w[ids]), v['hidden'].grad, dt, 'sampled dh'); gw = torch.zeros(V, E, dtype=dt)
            gw.index_add_(0, ids.reshape(-1), (ds[..., None]*h[:, None]).reshape(-1, E)); close(gw, v['weight'].grad, dt, 'sampled dw')
            if q == 'biased': close(torch.zeros(V, dtype=dt).index_add_(0, ids.reshape(-1), ds.reshape(-1)), b.grad, dt, 'sampled db')
        d.update({q+'.row_loss': rows, q+'.loss': loss.reshape(1), **{f'{q}.grad.{n}': t.grad for n, t in v.items()}})
    save('sampled_softmax', dn, d, dict(V=V, E=E, N=N, K=K, negative_weight=2, key_epsilon=1e-10))

def case_label_losses(dn, dt):
    B, C = 5, 4; g = gen(13); eps, gamma = .1, 2.
    z = rnd(g, B, C, scale=1.5); y = torch.tensor([2, 0, 3, 2, 1]); w = (unif(g, 1., C)+1.5).float().double(); t = (torch.rand(B, C, generator=g) < .4).double(); n = rnd(g, B, C)
    d = dict(logits=z.to(dt), labels=y, weights=w.to(dt), targets=t.to(dt), numbers=n.to(dt))
    def nll(v): return F.cross_entropy(v, y, reduction='none')
    def bce(v, **k): return F.binary_cross_entropy_with_logits(v, t.to(dt), **k)
    p_of = lambda v: (t.to(dt)*v.sigmoid()+(1-t.to(dt))*(-v).sigmoid())
    for q, loss in (('smoothed', lambda v: F.cross_entropy(v, y, label_smoothing=eps)), ('weighted', lambda v: F.cross_entropy(v, y, weight=w.to(dt))),
                    ('weighted_smoothed', lambda v: F.cross_entropy(v, y, weight=w.to(dt), label_smoothing=eps)), ('focal', lambda v: ((1-(-nll(v)).exp())**gamma*nll(v)).mean()),
                    ('labels', lambda v: bce(v)), ('labels_weighted', lambda v: bce(v, pos_weight=w.to(dt))), ('labels_focal', lambda v: ((1-p_of(v))**gamma*bce(v, reduction='none')).mean()),
                    ('number', lambda v: F.mse_loss(v, n.to(dt)))):
        v = z.to(dt).clone().requires_grad_(); l = loss(v); l.backward(); d.update({q+'.loss': l.reshape(1), q+'.grad': v.grad})
    save('label_losses', dn, d, dict(B=B, C=C, smoothing=eps, gamma=gamma))

def case_adaptive(dn, dt):
    V, E, N, *splits = ARG.adaptive; n = len(splits); ends = splits+[V]; g = gen(6); assert n >= 1 and splits[0] > 0 and all(a < b for a, b in zip(ends, ends[1:])) and N >= 2*n+2
    inp = dict(hidden=rnd(g, N, E), weight=unif(g, 1., V, E), bias=unif(g, .5, V), tail_vectors=unif(g, 1., n, E), tail_bias=unif(g, .5, n))
    y = torch.randint(0, V, (N,), generator=g); y[:2*n+2] = torch.tensor([x for a, b in zip([0]+splits, ends) for x in (a, b-1)])     # first and last word of every split
    y = y[torch.randperm(N, generator=g)]; v = {k: t.to(dt).requires_grad_() for k, t in inp.items()}
    def log_probs(v, tail_row):
        head = (v['hidden'] @ torch.cat([v['weight'][:splits[0]], v['tail_vectors']]).t()+torch.cat([v['bias'][:splits[0]], v['tail_bias']])).log_softmax(1); out = [head[:, :splits[0]]]
        for i in range(n):
            a, b = ends[i], ends[i+1]; out.append(head[:, splits[0]+tail_row(i), None]+(v['hidden'] @ v['weight'][a:b].t()+v['bias'][a:b]).log_softmax(1))
        return torch.cat(out, 1)
    lp = log_probs(v, lambda i: i); rows = -lp[torch.arange(N), y]; loss = rows.mean(); loss.backward(); close(lp.exp().sum(1), torch.ones(N, dtype=dt), dt, 'adaptive sum')
    # check: torch's adaptive softmax; a constant 1 behind every hidden vector carries the biases,
    # its tail projections are the identity
    m = nn.AdaptiveLogSoftmaxWithLoss(E+1, V, splits, div_value=1., head_bias=False).to(dt); one = torch.ones(N, 1, dtype=dt); wb = torch.cat([v['weight'], v['bias'][:, None]], 1).detach()
    with torch.no_grad():
        m.head.weight.copy_(torch.cat([wb[:splits[0]], torch.cat([v['tail_vectors'], v['tail_bias'][:, None]], 1)]))
        for i in range(n): m.tail[i][0].weight.copy_(torch.eye(E+1, dtype=dt)); m.tail[i][1].weight.copy_(wb[ends[i]:ends[i+1]])
    h = v['hidden'].detach().clone().requires_grad_(); r = m(torch.cat([h, one], 1), y); r.loss.backward(); close(r.loss, loss, dt, 'adaptive loss'); close(-r.output, rows, dt, 'adaptive rows'); close(h.grad, v['hidden'].grad, dt, 'adaptive dh')
    close(m.log_prob(torch.cat([h, one], 1)), lp, dt, 'adaptive log_prob'); gw = torch.cat([m.head.weight.grad[:splits[0]]]+[m.tail[i][1].weight.grad for i in range(n)]); gt = m.head.weight.grad[splits[0]:]
    close(gw[:, :E], v['weight'].grad, dt, 'adaptive dw'); close(gw[:, E], v['bias'].grad, dt, 'adaptive db'); close(gt[:, :E], v['tail_vectors'].grad, dt, 'adaptive dtail'); close(gt[:, E], v['tail_bias'].grad, dt, 'adaptive dtail_b')
    # awd-lstm-lm numbers its tombstones from the end (column -i for tail i): the same once its rows
    # are reversed
    f = {**v, 'tail_vectors': v['tail_vectors'].flip(0), 'tail_bias': v['tail_bias'].flip(0)}; close(log_probs(f, lambda i: n-1-i), lp, dt, 'adaptive order')
    d = {**v, 'splits': torch.tensor(splits), 'targets': y, 'log_probs': lp, 'row_loss': rows, 'loss': loss.reshape(1), **{'grad.'+k: t.grad for k, t in v.items()}}
    save('adaptive_softmax', dn, d, dict(V=V, E=E, N=N, splits=','.join(map(str, splits)), tails=n))

# ---------------------------------------------------------------- pooling
def case_pool(dn, dt):
    from fastai.text.models.core import masked_concat_pool
    T, E, *lens = ARG.pool; B = len(lens); assert max(lens) <= T and min(lens) >= 1; g = gen(7); x0 = rnd(g, B, T, E); up = rnd(g, B, 3*E).to(dt); L = torch.tensor(lens); t = torch.arange(T)[None]
    for name, mask in (('pool_07', t < T-L[:, None]), ('pool_v1', t < T-L[:, None]), ('pool_v2', t >= L[:, None])):
        x = x0.to(dt).clone().requires_grad_(); last = L-1 if name == 'pool_v2' else torch.full((B,), T-1); use = torch.zeros_like(mask) if name == 'pool_07' else mask
        mx, at = x.masked_fill(use[..., None], -float('inf')).max(1); n = (~use).sum(1)[:, None].to(dt)
        pooled = torch.cat([x[torch.arange(B), last], mx, x.masked_fill(use[..., None], 0).sum(1)/n], 1); (pooled*up).sum().backward()
        # check: the library's own pooling (0.7: adaptive pools over every position; v1 and v2:
        # masked_concat_pool) and the gradient by hand
        z = x.detach().transpose(1, 2)
        ref = torch.cat([x.detach()[:, -1], F.adaptive_max_pool1d(z, 1)[..., 0], F.adaptive_avg_pool1d(z, 1)[..., 0]], 1) if name == 'pool_07' else masked_concat_pool(x.detach(), mask, T if name == 'pool_v2' else 1)
        close(ref, pooled, dt, name); G = torch.where(use[..., None], torch.zeros((), dtype=dt), (up[:, 2*E:]/n)[:, None].expand(B, T, E)).clone()
        G[torch.arange(B), last] += up[:, :E]; G.scatter_add_(1, at[:, None], up[:, None, E:2*E]); close(G, x.grad, dt, name+' grad')
        save(name, dn, {'enc_out': x, 'lengths': L, 'pad_mask': mask.long(), 'g': up, 'argmax': at, 'pooled': pooled, 'grad.enc_out': x.grad}, dict(T=T, B=B, E=E, padding='tail' if name == 'pool_v2' else 'left', masked=int(name != 'pool_07')))

# ---------------------------------------------------------------- schedules, Adam with L2
def cosine(t, T, lr=.01): return lr/100 if t < T/20 else lr/2*(1+math.cos(math.pi*t/T))
def one_cycle(t, T, lo, mid, hi, pct=.25):
    s = t/T; f = lambda a, b, x: a+(b-a)*(1-math.cos(math.pi*x))/2
    return f(lo, mid, s/pct) if s < pct else f(mid, hi, (s-pct)/(1-pct))
def stlr_clamped(t, T, cut_frac=.1, ratio=32., lr_max=.01):
    if T == 1: return lr_max
    cut = max(1, math.floor(T*cut_frac)); p = t/cut if t < cut else 1-(t-cut)/(cut*(1/cut_frac-1))
    return lr_max*(1+min(1., max(0., p))*(ratio-1))/ratio
def case_schedules(dn, dt):
    from fastai.callback.schedule import combined_cos, SchedCos
    d = {}; lr = .01; lrf = combined_cos(.25, lr/25, lr, lr/1e5); momf = combined_cos(.25, .8, .7, .8)
    for T in ARG.totals:
        r = range(T); a = {f'cosine_T{T}': [cosine(t, T) for t in r], f'one_cycle_lr_T{T}': [one_cycle(t, T, lr/25, lr, lr/1e5) for t in r], f'one_cycle_mom_T{T}': [one_cycle(t, T, .8, .7, .8) for t in r], f'stlr_clamped_T{T}': [stlr_clamped(t, T) for t in r]}
        for t in r:    # check: fastai's own functions (combined_cos keeps its position in f32)
            assert abs(lrf(t/T)-a[f'one_cycle_lr_T{T}'][t]) < 1e-6*lr and abs(momf(t/T)-a[f'one_cycle_mom_T{T}'][t]) < 1e-6
            assert t < T/20 or abs(SchedCos(lr, 0.)(t/T)-a[f'cosine_T{T}'][t]) < 1e-12
            assert math.floor(.1*T) < 1 or stlr(t, T) < lr/32 or abs(stlr(t, T)-a[f'stlr_clamped_T{T}'][t]) < 1e-15
        d.update({k: torch.tensor(x, dtype=dt) for k, x in a.items()})
    save('schedules', dn, d, dict(lr_max=lr, one_cycle='div 25, pct .25, div_final 1e5, momentum .8 .7 .8', stlr='cut_frac .1, ratio 32'))

def case_adam_l2(dn, dt):
    g = gen(4); p0 = rnd(g, 4, 3).to(dt); gr = rnd(g, 5, 4, 3, scale=.5).to(dt); lr, (b1, b2), eps, wd = .01, (.8, .99), 1e-8, 1e-2    # p0 and grads are those of `optim`
    p = nn.Parameter(p0.clone()); o = torch.optim.Adam([p], lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd); d = {'p0': p0, 'grads': gr}; S = {'p': [], 'm': [], 'v': []}
    q, m, v = p0.clone(), torch.zeros_like(p0), torch.zeros_like(p0)
    for t in range(5):
        p.grad = gr[t].clone(); o.step(); st = o.state[p]; [S[k].append(x.detach().clone()) for k, x in (('p', p), ('m', st['exp_avg']), ('v', st['exp_avg_sq']))]
        e = gr[t]+wd*q; m = b1*m+(1-b1)*e; v = b2*v+(1-b2)*e*e; q = q-lr*(m/(1-b1**(t+1)))/((v/(1-b2**(t+1))).sqrt()+eps); close(q, p.detach(), dt, 'adam_l2 by hand')
    d.update({'adam_l2.p': torch.stack(S['p']), 'adam_l2.grad_avg': torch.stack(S['m']), 'adam_l2.sqr_avg': torch.stack(S['v'])})
    save('adam_l2', dn, d, dict(lr=lr, beta1=b1, beta2=b2, eps=eps, wd=wd, decoupled=0))

NOTES = {
'qrnn': """One QRNN layer with a window of two, time-major (Bradbury et al. 2017). `a_t = [x_t, x_t-1] (w*mask_w)^T + b` with x_-1 = `before`; gates z,f,o stacked in that order: z = tanh, f = sigmoid * `zoneout` (0 or 1, not scaled), o = sigmoid; `c_t = f z + (1-f) c_t-1`, `y_t = o c_t`. f is the share of the new (the paper's f is 1-f).
`loss = sum(y*gy) + sum(c_n*gc)`; `grad.w` is that of the raw weight. `c_all`: the state after each step. `eval.*`: no mask, f times 1 - zoneout_p. `window1.*`: the left half of w alone (a window of one), no mask, no zoneout.
Checked: y, c_all and every gradient equal a Conv1d over time followed by the recurrence's closed sum.""",
'awd_qrnn': """As awd_lm (same tied decoder, stream, masks, losses), with three QRNN layers E->H->H->E, the first with a window of two: `rnnL.w` [3n, 2E or n], `rnnL.b` [3n]; weight drop on all of `rnnL.w`; `mask.zoneoutL` [B,T,n] is 0 or 1. Carried, detached, from window 1 to 2: `cL`, and `last`, the first layer's last input, dropped as it was.
`eval.*`: no dropout, gates f times 1 - p_zoneout, state carried. The layer is that of `qrnn`.""",
'lstm': """One LSTM layer, time-major. `z = x_t W_ih^T + b_ih + h (W_hh*mask)^T + b_hh`, gates i,f,g,o stacked in that order (PyTorch).
`loss = sum(y*gy) + sum(h_n*gh) + sum(c_n*gc)`; `grad.w_hh` is the gradient of the raw weight (already times mask), `grad.w_hh_dropped` before the mask.
`gates` holds the activated i,f,g,o; `c_all` the cell state at each t. Equal to nn.LSTM within 1e-11 (f64).""",
'awd_lm': """3-layer AWD-LSTM LM (E->H->H->E), tied decoder (`logits = dropped_out @ emb^T + dec_bias`; the embedding-row mask applies to the input lookup only, NOT to the tied decoder). batch-first.
`stream` [B, 2*bptt+1]: window w in (1,2) has tokens `stream[:, (w-1)*bptt : w*bptt]`, targets one further. Window 2 starts from window 1's h/c (detached), zero at window 1. Same parameters in both (no update); new masks; `wK.grad.*` is that window's gradient alone.
Masks are multiplicative (0 or 1/(1-p)): `emb_row` [V,1] on rows of emb; `input` [B,1,E], `hidden0/1` [B,1,H] (after layers 0 and 1), `output` [B,1,E] constant over time; `rnnL.w_hh` on the raw recurrent weight.
`loss = CE(mean over B*T) + 2*mean(dropped_out^2) + 1*mean((raw_out[:,1:]-raw_out[:,:-1])^2)`; `loss_ar`, `loss_tar` already carry alpha=2, beta=1. TAR looks within the window only. `eval.*`: no dropout, state carried.
Checked: logits, loss and every gradient equal fastai 2.8's own get_language_model(AWD_LSTM) with these masks put in.""",
'classifier': """Encoder (no dropout inside) over chunks of bptt, then [h_T, max, mean] over the real tokens, BN(3E) -> dropout mask -> Linear(3E,hidden) -> ReLU -> BN(hidden) -> dropout mask -> Linear(hidden,classes) -> CE(mean). BN in train mode (biased variance, eps 1e-5); `stat.*.running_*` = after this one step from (0,1), momentum .1, unbiased variance.
`tokens_tail_pad` [B,T]: docs padded at the end with 1 (`lengths`); `tokens_fastai_pad`: the same docs in fastai's chunk-aligned front padding: same results. The pad row of `emb` gets no gradient. `enc_out` is for the tail-padded layout (positions >= length are junk to be masked; `grad.enc_out` is 0 there).
`grad.*`: hidden state DETACHED between chunks (as fastai; the paper's BPT3C). `grad_full_bptt.*`: not detached. Linear biases are 0 (fastai has none there); their gradients are given. `eval.logits`: head in eval mode with the new running stats on the same pooled vectors.
Checked: logits, running stats and every gradient equal fastai's get_text_classifier. (fastai quirk, not in these data: when the padded length is no multiple of bptt, its `last_lens` counts front pads inside the last bptt positions, so short docs get an earlier h_T.)""",
'optim': """`p0` [4,3], `grads` [5,4,3] given (not a function of p); `NAME.p` [5,4,3] = parameter after each step.
adam: fastai Adam = AdamW: p *= 1-lr*wd first, then m=b1*m+(1-b1)g, v=b2*v+(1-b2)g^2, p -= lr/(1-b1^t) * m/(sqrt(v/(1-b2^t))+eps); `adam.grad_avg`, `adam.sqr_avg` = m, v. adam_nowd_eps1e-8: wd 0, eps 1e-8. adam_sched: lr and beta1 from `lrs`, `moms` at each step (bias correction uses the current beta1^t, as fastai).
sgd_l2: g+wd*p; sgd_decoupled_wd: p*=1-lr*wd first; sgd_mom0.9: m=.9m+g, p-=lr*m. asgd: torch.optim.ASGD(lr .5, lambd 0, t0 0, wd 1e-3): same path as sgd_l2; `asgd.ax` = torch's average (its mu lags one step, so ax_k = mean(p_2..p_k) for k>=2); `asgd.mean_of_iterates` = plain mean(p_1..p_k).
clip.*: global-norm clip to .25 over two tensors (torch: scale = min(1, .25/(norm+1e-6))). nt.*: non-monotone trigger (n=5), first validation index where loss > min(all but the last 5 earlier losses).""",
'stlr': """lr for every t in 0..T-1: cut=floor(T*cut_frac); p = t/cut if t<cut else 1-(t-cut)/(cut*(1/cut_frac-1)); lr = lr_max*(1+p*(ratio-1))/ratio. `lr_T100` is the asked one. T57: cut=5; with cut floored p can go below 0 at the end (no clamp in the formula): see the last values of lr_T57.""",
'sampled_softmax': """Sampled softmax of the authors' pretraining script (SPEC 1.4). Negatives are shared by the batch and drawn without replacement: `keys = -ln(uniforms)/(unigram + 1e-10)`, `negatives` = the K smallest keys in ascending order (int64; the order changes nothing but the order of summation).
`s_y = hidden . weight[target] (+ bias)`, `s_neg = hidden @ weight[negatives]^T (+ bias)`; `row_loss = ln(e^s_y + sum 2 e^s_neg) - s_y`, `loss` = mean over the N rows. `plain.*`: no bias (as the script); `biased.*`: with bias. A maximum may be subtracted; it changes nothing.
A negative that equals the target is NOT treated specially (the script does not): it counts once as target and once, twice weighted, as negative. Row 0's target is such a negative; the targets of rows 1 and N-1 are the same word, no negative. Rows of weight and bias that are neither target nor negative have gradient 0. Word 1 (pad) has unigram probability 0.
Checked: equal to cross-entropy over [s_y, s_neg + ln 2] with its gradient scattered by hand.""",
'adaptive_softmax': """SplitCrossEntropyLoss of awd-lstm-lm (SPEC 1.4). `splits` = ends of all parts but the last: head = words [0, splits[0]), tail i = words [splits[i], splits[i+1]), the last up to V. Head logits: the head's words, then one tombstone per tail (`tail_vectors`, `tail_bias`; they start at 0 in training, here not).
log p(word of the head) = head log-softmax; log p(word of tail i) = head log-softmax at tombstone i + log-softmax within tail i. `log_probs` [N,V] over the whole vocabulary, rows sum to 1; `row_loss` = -log_probs at `targets`; `loss` = mean over N. Targets hold the first and the last word of every part.
Row i of `tail_vectors` is the tombstone of tail i. awd-lstm-lm counts them from the end (column -i): its parameter is this one with the rows reversed. Checked: loss, rows, log_probs and every gradient equal torch's AdaptiveLogSoftmaxWithLoss (identity projections, biases as a constant input).""",
'pool_07': """Pooling of fastai 0.7 (SPEC 1.6): documents padded on the LEFT to T, no mask: `pooled` [B,3E] = [enc_out at position T-1, max over all T positions, mean over all T positions]; pads enter both and get gradient. `enc_out` [B,T,E] batch-first; `pad_mask` 1 = pad position; `argmax` position of each maximum; `g` = upstream gradient, `grad.enc_out` = d sum(pooled*g) / d enc_out.
The three pool_* cases have the same enc_out, lengths and g. Checked: adaptive_max_pool1d, adaptive_avg_pool1d, gradient by hand.""",
'pool_v1': """As pool_07 (padded on the left, h_T at position T-1), but masked as fastai v1: pads are -infinity in the maximum, the mean runs over the `lengths` real positions; pads get no gradient. Checked: fastai 2.8's masked_concat_pool (with its last-position window at 1), gradient by hand.""",
'pool_v2': """As pool_v1, but padded at the END: h_T is at position lengths-1. Checked: fastai 2.8's masked_concat_pool, gradient by hand.""",
'schedules': """Value at each step t in 0..T-1 of T, lr_max .01. `cosine_T*` (fastai 0.7 CosAnneal, one cycle; SPEC 4.4): lr/100 while t < T/20 (a real division), then lr/2*(1+cos(pi*t/T)).
`one_cycle_lr_T*`, `one_cycle_mom_T*` (fastai 2.8 fit_one_cycle): s = t/T; cosine from lr/25 to lr over s in [0, .25), then from lr to lr/1e5; momentum .8 -> .7 -> .8 likewise; the last step does not reach the end value (s = (T-1)/T). Checked against fastai's combined_cos within 1e-6 (it keeps its position in f32; the values here are f64).
`stlr_clamped_T*`: STLR as the trainer uses it (SPEC 4.1, last lines): cut = max(1, floor(T*.1)), p clamped to [0,1], T = 1 takes lr_max; equal to `stlr` wherever that does not fall below lr/32 and cut >= 1.""",
'label_losses': """Losses of a classifier's logits [B,C], each with its gradient. `smoothed`: torch's cross_entropy with label_smoothing .1; `weighted`: with `weights`; `weighted_smoothed`: with both; `focal`: mean((1-p_label)^2 * -ln p_label).
`labels`: binary_cross_entropy_with_logits against `targets`; `labels_weighted`: with pos_weight = `weights`; `labels_focal`: each term times (1-p)^2, p the probability of what is there. `number`: mse_loss against `numbers`.""",
'adam_l2': """torch.optim.Adam with L2 inside: g' = g + wd*p, then m = b1*m+(1-b1)g', v = b2*v+(1-b2)g'^2, p -= lr*(m/(1-b1^t))/(sqrt(v/(1-b2^t))+eps). lr .01, betas (.8, .99), eps 1e-8, wd 1e-2. `p0` and `grads` as in optim; `adam_l2.p` [5,4,3] = parameter after each step, `grad_avg`, `sqr_avg` = m, v. Checked: by hand.""",
}
for dn, dt in DT.items():
    case_lstm(dn, dt); case_qrnn(dn, dt); case_lm(dn, dt); case_qrnn_lm(dn, dt); case_clas(dn, dt); case_opt(dn, dt); case_stlr(dn, dt)
    case_sampled(dn, dt); case_adaptive(dn, dt); case_pool(dn, dt); case_schedules(dn, dt); case_adam_l2(dn, dt); case_label_losses(dn, dt)
with open(os.path.join(OUT, 'README.md'), 'w') as f:
    f.write(f"# Golden fixtures\nMade by `make_golden.py` (torch {torch.__version__}); each case as `NAME_f64.safetensors` and `NAME_f32.safetensors`: same names, shapes and inputs (inputs are exactly representable in f32, save the mask scale 1/(1-p) and the lr lists), the arithmetic done in that type. f32 files hold f32 rounding of PyTorch's own order: compare to f64 with ~1e-5, f64 with ~1e-10. Integer tensors are int64. Hyperparameters also stand in each file's `__metadata__`. Run again on the same machine, the script writes the same bytes; another processor may differ in the last bit of long sums.\n")
    for name, dn, fn, sh, meta, size in doc:
        if dn != 'f64': continue
        f.write(f"\n## {name}\n{NOTES[name]}\n\nMetadata (the f64 file has {size} bytes):\n```json\n{json.dumps({k: str(v) for k, v in meta.items()})}\n```\n\n| tensor | shape | type |\n|---|---|---|\n")
        for k in sorted(sh): f.write(f"| `{k}` | {sh[k][1]} | {'float' if 'float' in sh[k][0] else sh[k][0]} |\n")
    f.write('\n## masks.json\nNot made here but by `make_masks.py` (its head says what it holds): known dropout masks of the counter-based generator.\n')
print('ok', [(x[2], x[5]) for x in doc])
