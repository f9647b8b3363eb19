// Issuers in the shape of real products: the metadata, the keys and the tokens of the file that the first argument
// names. The other arguments name products of it; without any, all of them run.
//
// Each product has an address of its own, which takes the place of the origins that the file lists for it. Prints
// `READY` and these addresses as JSON. Beside what the product has, `/_sign?token=<name>&aud=<audience>` yields a token
// of the file; with `key=another`, it is signed with a key that is not published, under the `kid` of the product's.
import { spawnSync } from 'node:child_process';
import * as crypto from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { promisify } from 'node:util';
import { SignJWT, exportJWK } from 'jose';

process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();

const [file, ...names] = process.argv.slice(2);
const shapes = JSON.parse(fs.readFileSync(file, 'utf8'));
const generateKeyPair = promisify(crypto.generateKeyPair);

// New keys at each start. RSA takes its time, so products share a few: those beside each other in the file do not.
function newKeys(type, options, count) {
  return Promise.all(Array.from({ length: count }, () => generateKeyPair(type, options)));
}
const [rsa, ec] = await Promise.all([
  newKeys('rsa', { modulusLength: 2048 }, 4),
  newKeys('ec', { namedCurve: 'P-256' }, 4),
]);
// The last of each algorithm is never published.
const keysOf = (alg) => (alg === 'ES256' ? ec : rsa);

// A certificate for the key, which OpenSSL signs with it. It opens no socket, which is what it would have here as its
// standard input: so `cat` gives it a pipe.
function certificate(privateKey) {
  const input = privateKey.export({ type: 'pkcs8', format: 'pem' });
  const command = 'cat | openssl req -x509 -key /dev/stdin -subj /CN=issuer -days 1 -outform DER';
  const made = spawnSync('sh', ['-c', command], { input });
  if (made.status !== 0) throw new Error(`openssl: ${made.stderr}`);
  return made.stdout;
}

// The public key with the members that the product's have, and no other.
async function publicJwk({ publicKey, privateKey }, kid, { alg, members, use = 'sig' }) {
  const jwk = { ...(await exportJWK(publicKey)), kid };
  if (members.includes('alg')) jwk.alg = alg;
  if (members.includes('use')) jwk.use = use;
  if (members.includes('nbf')) jwk.nbf = 1493763266;
  if (members.includes('value')) jwk.value = publicKey.export({ type: 'spki', format: 'pem' });
  if (members.includes('x5c')) {
    const der = certificate(privateKey);
    jwk.x5c = [der.toString('base64')];
    if (members.includes('x5t')) jwk.x5t = crypto.createHash('sha1').update(der).digest('base64url');
  }
  return jwk;
}

// A value of the file with what stands for an audience and for a time.
function filledIn(value, aud, now) {
  if (value === '$AUD') return aud;
  if (value === '$NOW') return now;
  if (Array.isArray(value)) return value.map((item) => filledIn(item, aud, now));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, filledIn(item, aud, now)]));
}

async function body(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return new URLSearchParams(text);
}

async function start(name, index) {
  const server = http.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = `http://127.0.0.1:${server.address().port}`;
  let text = JSON.stringify({ tokens: shapes[shapes[name].tokens_of]?.tokens, ...shapes[name] });
  for (const origin of shapes[name].origins) text = text.replaceAll(origin, address);
  const shape = JSON.parse(text);

  const key = keysOf(shape.keys.alg)[index % 3];
  const kid = crypto.randomUUID();
  const keys = [await publicJwk(key, kid, shape.keys)];
  if (shape.keys.and_for_encryption) {
    const { publicKey } = rsa[(index + 1) % 3];
    keys.unshift({ ...(await exportJWK(publicKey)), kid: 'encryption', use: 'enc', alg: 'RSA-OAEP' });
  }

  const pathOf = (url) => new URL(url).pathname;
  const documents = new Map([[pathOf(shape.jwks_uri ?? shape.metadata.jwks_uri), { keys }]]);
  if (shape.metadata) {
    const path = shape.metadata_path ?? `${pathOf(shape.issuer).replace(/\/$/, '')}/.well-known/openid-configuration`;
    documents.set(path, shape.metadata);
  }
  // By the token, what introspection says about it.
  const known = new Map();

  async function sign(query) {
    const now = Math.floor(Date.now() / 1000);
    const token = shape.tokens[query.get('token')];
    const aud = query.get('aud');
    const claims = { iss: shape.issuer, iat: now, exp: now + 300, ...filledIn(token.claims, aud, now) };
    const { privateKey } = query.get('key') === 'another' ? keysOf(shape.keys.alg)[3] : key;
    const header = { alg: shape.keys.alg, kid, ...token.header };
    if (header.kid === null) delete header.kid;
    const jwt = await new SignJWT(claims).setProtectedHeader(header).sign(privateKey);
    if (token.introspected) known.set(jwt, { active: true, ...claims, ...filledIn(token.introspected, aud, now) });
    return jwt;
  }

  // RFC 7662, for one client.
  async function introspect(request) {
    const form = await body(request);
    const basic = Buffer.from(request.headers.authorization?.split(' ')[1] ?? '', 'base64').toString();
    const client = basic || `${form.get('client_id')}:${form.get('client_secret')}`;
    if (client !== process.env.CLIENT) return { active: false };
    return known.get(form.get('token')) ?? { active: false };
  }

  server.on('request', async (request, response) => {
    try {
      const url = new URL(request.url, address);
      if (url.pathname === '/_sign') return response.end(await sign(url.searchParams));
      const endpoint = shape.metadata?.introspection_endpoint;
      const isQuestion = request.method === 'POST' && endpoint && url.pathname === pathOf(endpoint);
      const document = isQuestion ? await introspect(request) : documents.get(url.pathname);
      response.writeHead(document ? 200 : 404, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(document ?? {}));
    } catch (error) {
      console.error(error);
      response.writeHead(500).end();
    }
  });
  return [name, address];
}

const started = await Promise.all((names.length ? names : Object.keys(shapes)).map(start));
console.log(`READY ${JSON.stringify(Object.fromEntries(started))}`);
