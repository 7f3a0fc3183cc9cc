"""What `ulmfit serve` bears, beside what `predict` does: answers, throughput, times at half load,
malformed requests, slow clients. Ends with status 1 where a bound does not hold.
The model: three layers on the English base, a few updates on TREC-6.
Needs Python alone, and a machine with nothing else to do.
usage: tools/serve.py ULMFIT DATA_DIR OUT_DIR [CLIENTS [TEXTS]]   hostile clients of a kind, texts"""
import atexit, contextlib, json, os, queue, random, re, resource, selectors, socket, statistics, struct, subprocess, sys, threading, time

ulmfit, data, out = (os.path.abspath(path) for path in sys.argv[1:4])
CLIENTS, TEXTS = [int(given) for given in sys.argv[4:]] + [10_000, 6_000][len(sys.argv) - 4:]
failed = []
# a file for each client, here and in the server
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
if hard != resource.RLIM_INFINITY and hard < CLIENTS + 500:
    sys.exit(f'{CLIENTS} clients need as many open files; the limit is {hard} (ulimit -Hn)')


def said(what, value, holds=None):
    print(f'{what:58} {value}' + ('' if holds is None else '' if holds else '   NOT WITHIN THE BOUND'), flush=True)
    if holds is False:
        failed.append(what)


def run(*line):
    done = subprocess.run([ulmfit, *line, '--device', 'cpu', '--quiet'], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


class Server:
    def __init__(self, *flags):
        line = [ulmfit, 'serve', '--model', model, '--listen', '127.0.0.1:0', '--device', 'cpu', '--quiet', *flags]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.kill)
        host, port = self.process.stdout.readline().split('//')[1].split(':')
        self.address = host, int(port)

    def memory(self, key='VmRSS'):
        """Resident memory in MiB."""
        status = open(f'/proc/{self.process.pid}/status').read()
        return int(re.search(rf'{key}:\s+(\d+)', status)[1]) / 1024

    def end(self):
        self.process.terminate()
        assert self.process.wait(90) == 0, 'the server did not end well'


class Client:
    """A connection that is kept."""

    def __init__(self, server):
        self.socket = socket.create_connection(server.address, timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile('rb')

    def ask(self, texts):
        body = json.dumps({'inputs': texts}).encode()
        self.socket.sendall(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n' % len(body) + body)
        status, length = int(self.file.readline().split()[1]), 0
        for line in iter(self.file.readline, b'\r\n'):
            if line.lower().startswith(b'content-length:'):
                length = int(line.split(b':')[1])
        reply = self.file.read(length)
        if status != 200:
            raise RuntimeError(f'{status}: {reply[:200]}')
        return reply

    def close(self):
        self.file.close()
        self.socket.close()


def threads(count, work):
    """Runs work(client) in threads of a client each."""
    faults = []

    def one():
        try:
            client = Client(server)
            work(client)
            client.close()
        except Exception as fault:
            faults.append(fault)
    all = [threading.Thread(target=one) for _ in range(count)]
    for t in all: t.start()
    for t in all: t.join()
    if faults:
        raise faults[0]


# the model and the texts
os.makedirs(out, exist_ok=True)
questions = os.path.join(data, 'trec/train_5500.label')
lm, model = os.path.join(out, 'lm'), os.path.join(out, 'model')
if not os.path.exists(os.path.join(model, 'config.json')):
    run('finetune-lm', '--base', 'english', '--text', questions, '--out', lm, '--max-steps', '2', '--overwrite')
    run('train-classifier', '--recipe', 'default', '--model', lm, '--train', questions, '--out', model, '--max-steps', '30', '--overwrite')
texts = [line.split(' ', 1)[1].strip() for line in open(questions, encoding='latin-1')][:TEXTS]
everything, first = os.path.join(out, 'all.txt'), os.path.join(out, 'first.txt')
open(everything, 'w').write('\n'.join(texts) + '\n')
open(first, 'w').write(texts[0] + '\n')


def seconds(path):
    begun = time.perf_counter()
    lines = run('predict', '--model', model, '--input', path)
    return time.perf_counter() - begun, lines


# answers, in requests of 64 by four clients; then one text each by 32
server = Server()
alone = statistics.median(seconds(first)[0] for _ in range(3))
whole, lines = min(seconds(everything) for _ in range(3))
of_file = (len(texts) - 1) / (whole - alone)
said('predict --input, without loading, texts/s', f'{of_file:.0f}')
expected = [json.loads(line)['probabilities'] for line in lines.splitlines()]


def through(size, clients):
    """Answers of all texts, in requests of `size` texts; and texts a second."""
    parts, found = queue.SimpleQueue(), [None] * len(texts)
    for at in range(0, len(texts), size):
        parts.put(at)

    def work(client):
        while True:
            try:
                at = parts.get_nowait()
            except queue.Empty:
                return
            found[at] = client.ask(texts[at:at + size])
    begun = time.perf_counter()
    threads(clients, work)
    took = time.perf_counter() - begun
    answers = [one['probabilities'] for reply in found if reply for one in json.loads(reply)['predictions']]
    equal = len(answers) == len(expected) and all(a == b for a, b in zip(answers, expected))
    said(f'answers in requests of {size}: equal to those of predict', f'{len(answers)} of {len(texts)}', equal)
    return len(texts) / took


rate = max(through(64, 4) for _ in range(3))
said('serve, requests of 64 texts, texts/s (of predict: 80 % or more)', f'{rate:.0f}, {100 * rate / of_file:.0f} %', rate >= 0.8 * of_file)
rate = max(through(1, 32) for _ in range(2))
said('serve, requests of 1 text by 32 clients, texts/s', f'{rate:.0f}, {100 * rate / of_file:.0f} %')

# one text at a time, then as they come at half of that rate, and at half of the rate before
client, single = Client(server), []
for text in texts[:500]:
    begun = time.perf_counter()
    client.ask(text)
    single.append(time.perf_counter() - begun)
client.close()
single = statistics.median(single)
said('a single answer, median, ms', f'{1e3 * single:.2f}')


def late(arriving_a_second):
    """Seconds from the arrival of each text, at random times, to its answer."""
    random.seed(1)
    arrivals, at, found = queue.SimpleQueue(), time.perf_counter() + 0.5, []
    for text in random.sample(texts, min(len(texts), max(500, int(10 * arriving_a_second)))):
        at += random.expovariate(arriving_a_second)
        arrivals.put((at, text))

    def arriving(client):
        while True:
            try:
                at, text = arrivals.get_nowait()
            except queue.Empty:
                return
            time.sleep(max(0.0, at - time.perf_counter()))
            client.ask(text)
            found.append(time.perf_counter() - at)
    threads(64, arriving)
    return found


for name, load, bound in (('one client', 0.5 / single, 5), ('32 clients', rate / 2, None)):
    found = late(load)
    p50, p99 = statistics.median(found), statistics.quantiles(found, n=100)[98]
    said(f'half the rate of {name}, {load:.0f}/s: median, ms', f'{1e3 * p50:.2f}')
    of = ' (less than five single answers)' if bound else ''
    said(f'  99 of 100, ms{of}', f'{1e3 * p99:.2f}, {p99 / single:.1f} single answers', p99 < bound * single if bound else None)

# malformed requests
VALID = json.dumps({'inputs': texts[:3]}).encode()
random.seed(2)


def noise(most, least=1):
    return bytes(random.randrange(256) for _ in range(random.randint(least, most)))


def post(body, path=b'/predict', head=b'', length=None):
    length = len(body) if length is None else length
    return b'POST %s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%scontent-length: %d\r\n\r\n%s' % (path, head, length, body), False


def cut(body):
    return body[:random.randrange(len(body))]


def raw(head, body=b''):
    return head + b'\r\n\r\n' + body, True


def inner(value, path=b'/predict'):
    return post(json.dumps(value).encode(), path)


KINDS = {
    'noise': lambda: raw(noise(400)),
    'head cut off': lambda: (cut(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n'), True),
    'body cut off': lambda: (post(cut(VALID), length=len(VALID))[0], True),
    'no version': lambda: raw(b'POST /predict'),
    'another version': lambda: raw(b'POST /predict HTTP/%d.%d\r\nhost: x' % (random.randint(2, 9), random.randint(2, 9))),
    'a method of noise': lambda: raw(noise(9) + b'\x00 /predict HTTP/1.1\r\nhost: x'),
    'a path of noise': lambda: raw(b'GET /\x01' + noise(40) + b' HTTP/1.1\r\nhost: x'),
    'no colon': lambda: raw(b'POST /predict HTTP/1.1\r\nhost x'),
    'a header of noise': lambda: raw(b'POST /predict HTTP/1.1\r\nx\x00' + noise(60) + b': y'),
    'a length of letters': lambda: raw(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: x%d' % random.randrange(99)),
    'a negative length': lambda: raw(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -%d' % random.randint(1, 99)),
    'a length beyond 64 bits': lambda: raw(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1' + b'0' * random.randint(20, 99)),
    'two lengths': lambda: raw(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2', b'{}'),
    'chunks of noise': lambda: raw(b'POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked', b'z' + noise(50)),
    'a huge chunk': lambda: raw(b'POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked', b'f' * 17 + b'\r\n'),
    'many headers': lambda: raw(b'GET / HTTP/1.1' + b'\r\nx: y' * random.randint(101, 999)),
    'a long header': lambda: raw(b'GET / HTTP/1.1\r\nx: ' + b'y' * random.randint(70_000, 500_000)),
    'a long path': lambda: raw(b'GET /' + b'y' * random.randint(70_000, 200_000) + b' HTTP/1.1\r\nhost: x'),
    'HTTP 2': lambda: raw(b'PRI * HTTP/2.0\r\n\r\nSM', noise(40)),
    'TLS': lambda: (b'\x16\x03\x01\x02\x00\x01' + noise(300, 200), True),
    'no JSON': lambda: post(b'\xff' + noise(200)),
    'JSON cut off': lambda: post(cut(VALID)),
    'text that is no UTF-8': lambda: post(b'{"inputs": "\xff' + noise(9).replace(b'"', b'') + b'"}'),
    'half a surrogate': lambda: post(b'{"inputs": "\\ud8%02x"}' % random.randrange(256)),
    'nested deeply': lambda: post(b'{"inputs": ' + b'[' * random.randint(200, 100_000)),
    'an endless number': lambda: post(b'{"inputs": 1' + b'0' * random.randint(400, 5000) + b'e99999}'),
    'another type': lambda: inner({'inputs': random.choice([None, 1, 1.5, True, {}, {'a': 'b'}, [1], ['a', None], [['a']]])}),
    'nothing asked': lambda: inner(random.choice([{}, [], 'inputs', 7, None, {'input': 'a'}])),
    'explain what': lambda: inner({'inputs': 'a', 'explain': random.choice([1, 'yes', [], {}])}),
    'too many texts': lambda: inner({'inputs': ['a'] * random.randint(257, 2000)}),
    'too large': lambda: post(b'', length=random.randint(4_194_305, 1 << 60)),
    'KServe': lambda: inner({'inputs': random.choice([[], 'a', [{}], [{'datatype': 'FP32', 'data': [1]}], [{'datatype': 'BYTES', 'data': [1]}], [{'datatype': 'BYTES', 'data': 'a'}]])}, b'/v2/models/ulmfit/infer'),
    'another model': lambda: inner({}, b'/v2/models/%d/infer' % random.randrange(999)),
    'no such path': lambda: post(VALID, b'/%x' % random.randrange(1 << 40)),
    'another method': lambda: (b'%s /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n' % random.choice([b'GET', b'PUT', b'DELETE', b'PATCH', b'OPTIONS', b'BREW']), False),
}


def hostile(kind):
    """The statuses that a malformed request gets; none: the connection was closed."""
    content, ends = KINDS[kind]()
    with socket.create_connection(server.address, timeout=100) as connection:
        reply = b''
        # the server may have closed it before all was said
        with contextlib.suppress(OSError):
            connection.sendall(content)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                reply += part
    return [int(status) for status in re.findall(rb'HTTP/1\.[01] (\d{3}) ', reply)]


names, found, wrong = list(KINDS), {}, []
for number in range(CLIENTS):
    kind = names[number % len(names)]
    statuses = hostile(kind)
    if any(not 400 <= status < 500 for status in statuses):
        wrong.append((kind, statuses))
    for status in statuses or ['closed']:
        found[status] = found.get(status, 0) + 1
shown = ', '.join(f'{status}: {count}' for status, count in sorted(found.items(), key=str))
said(f'{CLIENTS} malformed requests of {len(names)} kinds', shown, not wrong)
for kind, statuses in wrong[:5]:
    said('  answered otherwise', f'{kind}: {statuses}')
client = Client(server)
said('  the server answers', 'as before', json.loads(client.ask(texts[0]))['predictions'][0]['probabilities'] == expected[0])
client.close()
said('  its memory, MiB', f'{server.memory():.0f}')
server.end()

# slow clients: each says a part of a request and waits, or goes on by a byte now and then
LIMIT = 60
server = Server('--timeout', str(LIMIT), '--max-connections', str(CLIENTS + 100))
client = Client(server)
client.ask(texts[0])
before = server.memory()
PARTS = [b'', b'POST /pre', b'POST /predict HTTP/1.1\r\nhost: x\r\n', post(b'{"in', length=900)[0], b'GET / HTTP/1.1\r\nx: ']
watch, steady, ages = selectors.DefaultSelector(), set(), []


def look(wait):
    """Notices the connections that were closed."""
    for key, _ in watch.select(wait):
        connection = key.fileobj
        with contextlib.suppress(ConnectionResetError):
            if connection.recv(1 << 16):
                continue
        ages.append(time.perf_counter() - key.data)
        watch.unregister(connection)
        steady.discard(connection)
        connection.close()


begun = time.perf_counter()
for number in range(CLIENTS):
    connection = socket.create_connection(server.address, timeout=60)
    connection.sendall(PARTS[number % len(PARTS)])
    connection.setblocking(False)
    watch.register(connection, selectors.EVENT_READ, time.perf_counter())
    if number % len(PARTS) == 4:
        steady.add(connection)
    if number % 100 == 0:
        look(0)
opened, together, most, answers, waits = time.perf_counter() - begun, len(watch.get_map()), 0.0, 0, []
while watch.get_map() and time.perf_counter() - begun < 5 * LIMIT:
    look(0.2)
    # one in five goes on, byte by byte
    for connection in random.sample(sorted(steady, key=id), len(steady) // 3):
        with contextlib.suppress(OSError):
            connection.send(b'y')
    most = max(most, server.memory())
    asked = time.perf_counter()
    other = Client(server)
    answers += json.loads(other.ask(texts[0]))['predictions'][0]['probabilities'] == expected[0]
    other.close()
    waits.append(time.perf_counter() - asked)
said(f'{CLIENTS} slow clients, at the same time', f'{together}, after {opened:.1f} s', together == CLIENTS)
said('  closed by the server', len(ages), len(ages) == CLIENTS)
said(f'  the last one after, s (the limit is {LIMIT})', f'{max(ages):.1f}', max(ages) < LIMIT + 5)
said('  answers to others meanwhile', f'{answers} of {len(waits)}, the slowest {1e3 * max(waits):.0f} ms', answers == len(waits))
said('  memory for each, KiB (32 or less)', f'{1024 * (most - before) / CLIENTS:.1f}', 1024 * (most - before) / CLIENTS <= 32)

# the same with as much as a head and a body may hold
for what, content, clients, bound in (
    ('heads of 300 KB', b'GET / HTTP/1.1\r\nx: ' + b'y' * 300_000, 1000, 160),
    ('bodies of 4 MB', post(b'[' * 4_000_000, length=4_100_000)[0], 200, 600),
):
    before, most, open_ones = server.memory(), 0.0, []
    for _ in range(clients):
        connection = socket.create_connection(server.address, timeout=5)
        # nothing is left to wait for afterwards
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        try:
            connection.sendall(content)
        except OSError:
            pass
        open_ones.append(connection)
        most = max(most, server.memory())
    said(f'{clients} clients with {what} that do not end: MiB more', f'{most - before:.0f} ({bound} or less)', most - before <= bound)
    other = Client(server)
    said('  the server answers', 'as before', json.loads(other.ask(texts[0]))['predictions'][0]['probabilities'] == expected[0])
    other.close()
    for connection in open_ones:
        connection.close()
server.end()
if failed:
    sys.exit(f'not within the bound: {"; ".join(failed)}')
print('all within the bounds')
