// A server and a client of Node's http2: `server [CERTIFICATE KEY]`, `client URL`, and `load URL`, whose requests
// must all succeed. The server prints its port. The client trusts the authorities of NODE_EXTRA_CA_CERTS.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';

const { NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR } = http2.constants;
const LARGE = 5 * 1024 * 1024;

// The server.

let cancelled = 0;

const paths = {
  '/echo': async (stream) => {
    const trailers = once(stream, 'trailers');
    const body = await read(stream);
    const [{ 'x-sum': sum }] = await trailers;
    stream.respond({ ':status': 200 }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': sum }));
    stream.end(body);
  },
  '/hints': (stream) => {
    stream.additionalHeaders({ ':status': 103, link: '</style.css>; rel=preload' });
    stream.respond({ ':status': 200 }, { endStream: true });
  },
  '/reset': (stream) => {
    stream.respond({ ':status': 200 });
    stream.write('the first half', () => stream.destroy(new Error('reset')));
  },
  '/wait': (stream) => {
    stream.on('close', () => { cancelled += stream.rstCode === NGHTTP2_CANCEL ? 1 : 0; });
    stream.respond({ ':status': 200 });
  },
  '/cancelled': (stream) => {
    stream.respond({ ':status': 200 });
    stream.end(`${cancelled}`);
  },
};

function serve(certificate, key) {
  const server = certificate === undefined
    ? http2.createServer()
    : http2.createSecureServer({ cert: readFileSync(certificate), key: readFileSync(key) });
  const sessions = new Set();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
  });
  server.on('stream', async (stream, headers) => {
    stream.on('error', () => {});
    try {
      await paths[headers[':path']](stream);
    } catch {
      stream.close(NGHTTP2_INTERNAL_ERROR); // the client has reset it
    }
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
  process.on('SIGTERM', () => {
    server.close();
    sessions.forEach((session) => session.close()); // GOAWAY; active streams go on
  });
}

// The client.

async function read(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

function check(condition, message) {
  if (!condition) throw new Error(message);
}

async function get(session, path) {
  const stream = session.request({ ':path': path });
  const body = await read(stream);
  return body.toString();
}

// Sends the second half of the body after `pause`.
async function echo(session, size, pause) {
  const sent = Buffer.alloc(size, '0123456789abcdef');
  const stream = session.request({ ':method': 'POST', ':path': '/echo' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': `${size}` }));
  let status, sum;
  stream.on('response', (headers) => { status = headers[':status']; });
  stream.on('trailers', (trailers) => { sum = trailers['x-sum']; });
  const closed = once(stream, 'close');
  if (pause) {
    stream.write(sent.subarray(0, size / 2));
    await pause;
    stream.end(sent.subarray(size / 2));
  } else {
    stream.end(sent);
  }
  const received = await read(stream);
  await closed;
  check(status === 200, `${size} bytes: the status is ${status}: ${received.subarray(0, 200)}`);
  check(received.equals(sent), `sent ${size} bytes, received ${received.length}, or others`);
  check(sum === `${size}`, `the trailer of ${size} bytes is ${sum}`);
}

function concurrent(session) {
  return Promise.all(Array.from({ length: 100 }, (_, number) => echo(session, number * 100)));
}

const checks = {
  'bodies and trailers': async (session) => {
    for (const size of [0, 1, 1000, 65535, 65536, LARGE]) await echo(session, size);
  },
  concurrent,
  'early hints': async (session) => {
    const stream = session.request({ ':path': '/hints' });
    let hint;
    stream.on('headers', (headers) => { hint = headers; });
    const [headers] = await once(stream, 'response');
    await read(stream);
    check(hint?.[':status'] === 103 && hint.link, `the hint is ${JSON.stringify(hint)}`);
    check(headers[':status'] === 200, `the status is ${headers[':status']}`);
  },
  'reset by the server': async (session) => {
    const stream = session.request({ ':path': '/reset' });
    const outcome = await read(stream).then(() => 'the body is whole', (error) => error.code);
    check(outcome === 'ERR_HTTP2_STREAM_ERROR', outcome);
    await echo(session, 10); // on the same connection
  },
  'cancelled by the client': async (session) => {
    const stream = session.request({ ':path': '/wait' });
    await once(stream, 'response');
    stream.close(NGHTTP2_CANCEL);
    const deadline = Date.now() + 20_000;
    while ((await get(session, '/cancelled')) !== '1') {
      check(Date.now() < deadline, 'the server was not told of the cancellation');
    }
  },
  'connection that the client closes': async (session) => { // the last one
    const closed = once(session, 'close');
    const arrived = new Promise((resolve) => { session.ping(resolve); }).then(() => session.close());
    const echoes = Array.from({ length: 10 }, () => echo(session, 100_000, arrived));
    await Promise.all(echoes);
    await closed;
  },
};

async function run(url) {
  const session = http2.connect(url);
  for (const [name, passes] of Object.entries(checks)) {
    try {
      await passes(session);
    } catch (error) {
      console.log(`${name}: ${error.stack}`);
      process.exit(1);
    }
    console.log(`passed: ${name}`);
  }
}

// Says "started" after the first requests: then the server may be stopped.
async function load(url) {
  const session = http2.connect(url);
  for (let round = 0; round < 20; round += 1) {
    await concurrent(session);
    if (round === 0) console.log('started');
  }
  session.close();
}

const [role, ...options] = process.argv.slice(2);
try {
  await { server: serve, client: run, load }[role](...options);
} catch (error) {
  console.log(error.stack);
  process.exit(1);
}
