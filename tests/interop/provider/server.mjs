// The real, OpenID-certified provider (npm `oidc-provider`) that the interop tests sign in at.
//
// Listens on 127.0.0.1 only, keeps everything in memory, and prints `READY <issuer>` once its discovery
// document answers. README.md lists its users, its clients and every environment variable.
import * as crypto from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Provider, errors } from 'oidc-provider';

const env = process.env;
const text = (name, fallback) => env[name] || fallback;
const list = (name, fallback) => (env[name] ? env[name].split(/[\s,]+/).filter(Boolean) : fallback);
const flag = (name, fallback = false) => (env[name] ? !/^(0|false|no|off)$/i.test(env[name]) : fallback);
function number(name, fallback) {
  if (!env[name]) return fallback;
  if (!/^\d+$/.test(env[name])) throw new Error(`${name} must be a number, not ${JSON.stringify(env[name])}`);
  return Number(env[name]);
}

// A test that is killed cannot stop its provider; the pipe it held closes in any case.
if (flag('EXIT_WITH_STDIN')) {
  process.stdin.on('end', () => process.exit(0)).on('error', () => process.exit(0)).resume();
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));

// A provider whose clock is wrong, by so many seconds.
const AHEAD = number('CLOCK_AHEAD', 0) * 1000;
const systemTime = Date.now;
Date.now = () => systemTime() + AHEAD;

// The issuer contains the port, and the provider wants its issuer at birth: listen first.
const server = http.createServer();
server.listen(number('PORT', 0), '127.0.0.1');
await once(server, 'listening');
const ADDRESS = `http://127.0.0.1:${server.address().port}`;
const ISSUER = text('ISSUER', ADDRESS);

// ---- keys: new ones at each start, unless DATA_DIR says where they are kept ----

function key(type, options, name) {
  const jwk = crypto.generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
  return { ...jwk, use: 'sig', kid: `${name}-${crypto.randomBytes(4).toString('hex')}` };
}
function signingKeys() {
  return {
    keys: [
      key('rsa', { modulusLength: 2048 }, 'rsa'),
      key('ec', { namedCurve: 'P-256' }, 'p-256'),
      key('ec', { namedCurve: 'P-384' }, 'p-384'),
      key('ed25519', {}, 'ed25519'),
    ],
  };
}
function keptKeys(directory) {
  const file = path.join(directory, 'keys.json');
  const kept = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : { keys: [] };
  if (kept.keys.length && !flag('FRESH_KEYS')) return kept;
  // The first of each kind signs; the keys before them are still published.
  const keys = { keys: [...signingKeys().keys, ...kept.keys] };
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(file, JSON.stringify(keys), { mode: 0o600 });
  return keys;
}
const jwks = env.DATA_DIR ? keptKeys(env.DATA_DIR) : signingKeys();

// ---- users ----

const users = env.USERS ? JSON.parse(env.USERS) : {
  alice: {
    password: 'alice-password', sub: 'alice', name: 'Alice Liddell', given_name: 'Alice', family_name: 'Liddell',
    preferred_username: 'alice', email: 'alice@example.com', email_verified: true, groups: ['users', 'admin'],
    locale: 'en-GB', zoneinfo: 'Europe/London', updated_at: 1700000000, picture: 'https://example.com/alice.png',
  },
  bob: {
    password: 'bob-password', sub: 'bob', name: 'Bob Dodgson', given_name: 'Bob', family_name: 'Dodgson',
    preferred_username: 'bob', email: 'bob@example.com', email_verified: false, groups: ['users'],
  },
};
const userOf = (sub) => Object.values(users).find((user) => user.sub === sub);

// ---- clients ----

const SECRET = text('CLIENT_SECRET', 'interop-secret-0123456789abcdef0123456789abcdef');
const BACKCHANNEL_LOGOUT_URI = env.BACKCHANNEL_LOGOUT_URI;
const app = {
  client_secret: SECRET,
  redirect_uris: list('REDIRECT_URI', ['http://localhost:8000/oidc/authorize']),
  post_logout_redirect_uris: list('POST_LOGOUT_REDIRECT_URI', ['http://localhost:8000/']),
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  ...(BACKCHANNEL_LOGOUT_URI && {
    backchannel_logout_uri: BACKCHANNEL_LOGOUT_URI,
    backchannel_logout_session_required: flag('BACKCHANNEL_SESSION_REQUIRED', true),
  }),
};
const { client_secret: _, ...publicApp } = app;

// Clients that are known by their certificates (RFC 8705), as JSON: `url`, at which a proxy that ends TLS forwards to this
// provider, `self_signed`, the file of a certificate in PEM, and `subject`, that of a certificate of an authority.
const MTLS = env.MTLS ? JSON.parse(env.MTLS) : undefined;
function clientsWithCertificates() {
  const certificate = new crypto.X509Certificate(fs.readFileSync(MTLS.self_signed));
  const jwk = { ...certificate.publicKey.export({ format: 'jwk' }), x5c: [certificate.raw.toString('base64')] };
  const bound = { ...publicApp, tls_client_certificate_bound_access_tokens: true };
  const grants = { grant_types: [...app.grant_types, 'client_credentials'] };
  return [
    { ...bound, ...grants, client_id: 'mtls-self-signed', token_endpoint_auth_method: 'self_signed_tls_client_auth', jwks: { keys: [jwk] } },
    { ...bound, ...grants, client_id: 'mtls-authority', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: MTLS.subject },
    { ...bound, client_id: 'mtls-public', token_endpoint_auth_method: 'none' },
  ];
}
const machine = { client_secret: SECRET, redirect_uris: [], response_types: [], grant_types: ['client_credentials'] };
const clients = [
  { ...app, client_id: 'rocket-app', client_name: 'Rocket app' }, // client_secret_basic, RS256
  { ...app, client_id: 'rocket-post', token_endpoint_auth_method: 'client_secret_post' },
  { ...app, client_id: 'rocket-secret-jwt', token_endpoint_auth_method: 'client_secret_jwt' },
  { ...publicApp, client_id: 'rocket-public', token_endpoint_auth_method: 'none' },
  ...['RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA', 'HS256'].map((alg) => (
    { ...app, client_id: `rocket-${alg.toLowerCase()}`, id_token_signed_response_alg: alg })),
  { ...app, client_id: 'rocket-userinfo-jwt', userinfo_signed_response_alg: 'RS256' },
  { ...app, client_id: 'rocket-par', require_pushed_authorization_requests: true },
  { ...app, client_id: 'rocket-authtime', require_auth_time: true, default_max_age: 3600 },
  // A second application in the same user's session, without refresh tokens.
  { ...app, client_id: 'other-app', grant_types: ['authorization_code'] },
  // A resource server: introspects anybody's token, and may ask tokens for itself.
  { ...machine, client_id: 'notes-api' },
  { ...machine, client_id: 'notes-api-post', token_endpoint_auth_method: 'client_secret_post' },
  ...(MTLS ? clientsWithCertificates() : []),
  ...(env.CLIENTS ? JSON.parse(env.CLIENTS) : []),
];

// Clients that are known by the address of their metadata (Client ID Metadata Documents), as JSON: the documents by
// their addresses. These are not fetched; without any, the provider does not say that it fetches them.
const CLIENT_DOCUMENTS = env.CLIENT_DOCUMENTS ? JSON.parse(env.CLIENT_DOCUMENTS) : {};

// ---- the provider ----

const ACCESS_TOKEN_TTL = number('ACCESS_TOKEN_TTL', 300);
const API_AUDIENCE = text('API_AUDIENCE', 'https://api.notes.test');
const OPAQUE_AUDIENCE = text('OPAQUE_AUDIENCE', 'https://opaque.notes.test');
const api = (audience, rest) => ({
  audience, scope: text('API_SCOPE', 'notes:read notes:write'), accessTokenTTL: ACCESS_TOKEN_TTL, ...rest,
});
const resourceServers = {
  [API_AUDIENCE]: api(API_AUDIENCE, { accessTokenFormat: 'jwt', jwt: { sign: { alg: text('API_SIGN_ALG', 'RS256') } } }),
  [OPAQUE_AUDIENCE]: api(OPAQUE_AUDIENCE, { accessTokenFormat: 'opaque' }),
};
const ALGORITHMS = [
  'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'Ed25519', 'EdDSA', 'HS256', 'HS384', 'HS512',
];
const tokenTTL = (ctx, token) => token.resourceServer?.accessTokenTTL ?? ACCESS_TOKEN_TTL;

const endpointsForCertificates = MTLS && Object.fromEntries(Object.entries({
  token_endpoint: 'token', userinfo_endpoint: 'me', introspection_endpoint: 'token/introspection',
  revocation_endpoint: 'token/revocation', pushed_authorization_request_endpoint: 'request',
}).map(([name, path]) => [name, `${MTLS.url}/${path}`]));

const provider = new Provider(ISSUER, {
  clients,
  ...(MTLS && {
    discovery: { mtls_endpoint_aliases: endpointsForCertificates },
    clientAuthMethods: [
      'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none',
      'tls_client_auth', 'self_signed_tls_client_auth',
    ],
  }),
  jwks,
  cookies: { keys: [crypto.randomBytes(32).toString('hex')] },
  acrValues: ['urn:example:loa:1', 'urn:example:loa:2'],
  scopes: ['openid', 'offline_access', 'notes:read', 'notes:write'],
  claims: {
    acr: null, amr: null, auth_time: null, iss: null, sid: null,
    openid: ['sub'],
    profile: [
      'name', 'given_name', 'family_name', 'preferred_username', 'picture', 'locale', 'zoneinfo', 'updated_at', 'groups',
    ],
    email: ['email', 'email_verified'],
    groups: ['groups'],
  },
  // Core §5.4: with `response_type=code` the claims of a scope are at UserInfo only, unless this is off.
  conformIdTokenClaims: !flag('CLAIMS_IN_ID_TOKEN'),
  features: {
    devInteractions: { enabled: false },
    introspection: {
      enabled: flag('INTROSPECTION', true),
      allowedPolicy: (ctx, client, token) => client.clientId.startsWith('notes-api') || token.clientId === client.clientId,
    },
    clientIdMetadataDocument: { enabled: Object.keys(CLIENT_DOCUMENTS).length > 0, ack: 'draft-02' },
    revocation: { enabled: true },
    rpInitiatedLogout: { enabled: flag('RP_LOGOUT', true) },
    backchannelLogout: { enabled: flag('BACKCHANNEL_LOGOUT', true) },
    pushedAuthorizationRequests: { enabled: flag('PAR', true), requirePushedAuthorizationRequests: flag('REQUIRE_PAR') },
    registration: { enabled: flag('REGISTRATION', true), initialAccessToken: env.REGISTRATION_TOKEN || false },
    registrationManagement: { enabled: flag('REGISTRATION', true), rotateRegistrationAccessToken: flag('ROTATE_REGISTRATION_TOKEN') },
    resourceIndicators: {
      enabled: true,
      defaultResource: (ctx, client, oneOf) => oneOf || (flag('DEFAULT_RESOURCE') ? API_AUDIENCE : undefined),
      useGrantedResource: () => flag('USE_GRANTED_RESOURCE'),
      getResourceServerInfo: (ctx, indicator) => {
        if (!resourceServers[indicator]) throw new errors.InvalidTarget();
        return resourceServers[indicator];
      },
    },
    dPoP: {
      enabled: true,
      nonceSecret: flag('DPOP_NONCE') ? crypto.randomBytes(32) : undefined,
      requireNonce: () => flag('DPOP_NONCE'),
    },
    fapi: { enabled: flag('FAPI'), ...(flag('FAPI') && { profile: '2.0' }) },
    mTLS: {
      enabled: Boolean(MTLS),
      certificateBoundAccessTokens: true,
      selfSignedTlsClientAuth: true,
      tlsClientAuth: true,
      // As nginx reports them.
      getCertificate: (ctx) => ctx.get('x-ssl-client-cert') && new crypto.X509Certificate(decodeURIComponent(ctx.get('x-ssl-client-cert'))),
      certificateAuthorized: (ctx) => ctx.get('x-ssl-client-verify') === 'SUCCESS',
      certificateSubjectMatches: (ctx, property, expected) => (
        property === 'tls_client_auth_subject_dn' && ctx.get('x-ssl-client-s-dn') === expected),
    },
    claimsParameter: { enabled: true },
    clientCredentials: { enabled: true },
    jwtUserinfo: { enabled: true },
  },
  enabledJWA: {
    clientAuthSigningAlgValues: ALGORITHMS,
    idTokenSigningAlgValues: ALGORITHMS,
    userinfoSigningAlgValues: ALGORITHMS,
  },
  extraTokenClaims: (ctx, token) => {
    const user = token.accountId && userOf(token.accountId);
    return user ? { groups: user.groups } : undefined;
  },
  issueRefreshToken: (ctx, client, source) => client.grantTypeAllowed('refresh_token')
    && (flag('ALWAYS_REFRESH') || source.scopes.has('offline_access')),
  expiresWithSession: (ctx, source) => !source.scopes.has('offline_access'),
  rotateRefreshToken: () => flag('ROTATE', true),
  pkce: { required: (ctx, client) => flag('REQUIRE_PKCE') || client.clientAuthMethod === 'none' },
  responseTypes: ['code'],
  ttl: {
    AccessToken: tokenTTL,
    ClientCredentials: tokenTTL,
    AuthorizationCode: number('CODE_TTL', 60),
    IdToken: number('ID_TOKEN_TTL', 300),
    RefreshToken: number('REFRESH_TOKEN_TTL', 3600),
    Session: number('SESSION_TTL', 3600),
    Grant: number('GRANT_TTL', 86400),
    Interaction: 3600,
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (ctx, sub) => {
    const user = userOf(sub);
    return user && { accountId: sub, claims: () => ({ ...user, password: undefined }) };
  },
  // oidc-provider refuses to call loopback addresses (back-channel logout); here nothing else is called.
  fetch: (url, { dispatcher, ...options }) => {
    if (Object.hasOwn(CLIENT_DOCUMENTS, url)) return Response.json(CLIENT_DOCUMENTS[url]);
    const { hostname } = new URL(url);
    if (!['localhost', '127.0.0.1', '[::1]'].includes(hostname)) throw new Error(`only loopback is called, not ${hostname}`);
    return globalThis.fetch(url, options);
  },
  renderError: (ctx, out, error) => {
    ctx.type = 'html';
    ctx.body = page('Error', `<h1>Error</h1><pre id="error">${escape(JSON.stringify(out))}</pre>`);
    if (flag('VERBOSE')) console.error(error);
  },
});
// A test that puts the provider behind a proxy of its own says so by naming another issuer.
provider.proxy = ISSUER !== ADDRESS;

// ---- the pages a person sees: sign in, consent ----

const escape = (value) => String(value).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const page = (title, body) => `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>${escape(title)}</title></head><body>${body}</body></html>`;
const cancel = (uid) => `<form method="post" action="/interaction/${uid}/abort"><button id="cancel">Cancel</button></form>`;
const signInPage = (uid, params) => page('Sign in', `<h1>Sign in</h1>
<form method="post" action="/interaction/${uid}/login">
<input name="login" placeholder="username" value="${escape(params.login_hint || '')}" autofocus required>
<input name="password" type="password" placeholder="password" required>
<button id="sign-in">Sign in</button></form>${cancel(uid)}`);
const consentPage = (uid, params) => page('Consent', `<h1>Consent</h1>
<p>${escape(params.client_id)} asks for: ${escape(params.scope || '')}</p>
<form method="post" action="/interaction/${uid}/confirm"><button id="allow">Allow</button></form>${cancel(uid)}`);

async function formOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return new URLSearchParams(Buffer.concat(chunks).toString());
}
function answer(ctx, status, body) {
  ctx.status = status;
  ctx.type = 'html';
  ctx.body = body;
}
async function consent({ grantId, session, params, prompt: { details } }) {
  const grant = grantId
    ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (details.missingOIDCScope) grant.addOIDCScope(details.missingOIDCScope.join(' '));
  if (details.missingOIDCClaims) grant.addOIDCClaims(details.missingOIDCClaims);
  for (const [resource, scopes] of Object.entries(details.missingResourceScopes || {})) {
    grant.addResourceScope(resource, scopes.join(' '));
  }
  return { consent: { grantId: await grant.save() } };
}
const delay = { before: 0, after: 0 };
provider.use(async (ctx, next) => {
  // A token request that waits before it is carried out, which it is not when its client has gone; or after.
  if (ctx.path === '/_test/delay') {
    Object.assign(delay, { before: Number(ctx.query.before || 0), after: Number(ctx.query.after || 0) });
    ctx.body = delay;
    return;
  }
  // Refuses connections from now on, for so many milliseconds, and loses nothing.
  if (ctx.path === '/_test/down') {
    const { port } = server.address();
    ctx.body = 'down';
    ctx.res.once('finish', () => {
      server.close();
      server.closeAllConnections();
      setTimeout(() => server.listen(port, '127.0.0.1'), Number(ctx.query.for));
    });
    return;
  }
  if (ctx.path === '/token') {
    const { before, after } = delay;
    await sleep(before);
    if (before && ctx.req.socket.destroyed) return;
    await next();
    await sleep(after);
    return;
  }
  if (ctx.path === '/_test/events' && ctx.method === 'GET') {
    ctx.body = events;
    return;
  }
  const match = /^\/interaction\/([\w-]+)(?:\/(login|confirm|abort))?$/.exec(ctx.path);
  if (!match) return void await next();
  const [, uid, step] = match;
  ctx.set('cache-control', 'no-store');
  const interaction = await provider.interactionDetails(ctx.req, ctx.res).catch(() => undefined);
  if (interaction?.uid !== uid) return answer(ctx, 400, page('Error', '<h1 id="error">no such interaction</h1>'));
  const { prompt, params } = interaction;
  if (!step && ctx.method === 'GET') {
    return answer(ctx, 200, (prompt.name === 'login' ? signInPage : consentPage)(uid, params));
  }
  if (!step || ctx.method !== 'POST') return void (ctx.status = 405);

  let result;
  if (step === 'abort') {
    result = { error: 'access_denied', error_description: 'End-User aborted interaction' };
  } else if (step === 'login') {
    const form = await formOf(ctx.req);
    const name = form.get('login');
    const user = Object.hasOwn(users, name) ? users[name] : undefined;
    if (!user || user.password !== form.get('password')) {
      return answer(ctx, 401, page('Sign in', '<h1 id="error">wrong username or password</h1>'));
    }
    const acr = (params.acr_values || 'urn:example:loa:1').split(' ')[0];
    result = { login: { accountId: user.sub, acr, amr: ['pwd'], remember: true } };
  } else {
    result = await consent(interaction);
  }
  await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: step === 'confirm' });
  ctx.respond = false;
});

// ---- what happened, for assertions: GET /_test/events ----

const events = [];
function note(event, details) {
  events.push({ event, ...details });
  if (events.length > 200) events.shift();
  if (flag('VERBOSE')) console.error(event, details);
}
provider.on('grant.success', (ctx) => note('grant.success', {
  grant_type: ctx.oidc.params.grant_type, client: ctx.oidc.client.clientId,
}));
provider.on('grant.revoked', (ctx, grant) => note('grant.revoked', { grant }));
provider.on('backchannel.success', (ctx, client, sub, sid) => note('backchannel.success', { client: client.clientId, sub, sid }));
provider.on('backchannel.error', (ctx, error, client, sub, sid) => note('backchannel.error', {
  client: client.clientId, sub, sid, error: String(error.cause || error),
}));
for (const event of [
  'authorization.error', 'grant.error', 'introspection.error', 'revocation.error', 'userinfo.error', 'end_session.error',
  'pushed_authorization_request.error', 'registration_create.error', 'server_error',
]) {
  provider.on(event, (ctx, error) => note(event, {
    error: error.error || error.name, description: error.error_description || error.message, detail: error.error_detail,
  }));
}

server.on('request', (request, response) => response.setHeader('Date', new Date(Date.now()).toUTCString()));
server.on('request', provider.callback());
const discovery = await fetch(`${ADDRESS}/.well-known/openid-configuration`);
if (!discovery.ok) throw new Error(`discovery answered ${discovery.status}`);
await discovery.arrayBuffer();
console.log(`READY ${ISSUER}`);
