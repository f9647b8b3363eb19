// A client of the Model Context Protocol that knows the address of a server and nothing else: an official SDK.
//
//     node client.mjs http://localhost:8000/mcp @modelcontextprotocol/client
//
// The package is that one, or the earlier `@modelcontextprotocol/sdk`, which knows no revision without a handshake. A
// third argument is the only revision to offer; without it, the package offers all that it knows. With CLIENT_ID, the
// client has its metadata at that address (Client ID Metadata Document).
//
// Writes a line for whatever happens: `AUTHORIZE <address>` when a person is to sign in, who then types the address
// that the provider led to, and `SERVER`, `TOOLS`, `CALLED`, `FAILED` with JSON for what the server said.
import { createInterface } from 'node:readline';

const [address, library, revision] = process.argv.slice(2);
const server = new URL(address);
const isEarlier = library === '@modelcontextprotocol/sdk';
const modules = isEarlier ? ['client/index.js', 'client/auth.js', 'client/streamableHttp.js'] : [''];
const imported = await Promise.all(modules.map((module) => import([library, module].filter(Boolean).join('/'))));
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = Object.assign({}, ...imported);

const typed = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (word, what) => console.log(`${word} ${typeof what === 'string' ? what : JSON.stringify(what)}`);

// What is remembered of a sign-in, in memory.
const kept = {};
const person = {
  redirectUrl: 'http://127.0.0.1:1/callback',
  clientMetadataUrl: process.env.CLIENT_ID,
  clientMetadata: {
    client_name: 'MCP client',
    application_type: 'native',
    redirect_uris: ['http://127.0.0.1:1/callback'],
    grant_types: ['authorization_code'],
    response_types: ['code'],
    token_endpoint_auth_method: 'none',
  },
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { kept.client = client; },
  tokens: () => kept.tokens,
  // The SDK registers for the scopes that it is about to ask for, and oidc-provider holds it to those: for others it
  // registers anew.
  saveTokens: (tokens) => Object.assign(kept, { tokens, client: undefined }),
  codeVerifier: () => kept.verifier,
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (discovery) => { kept.discovery = discovery; },
  redirectToAuthorization: (url) => say('AUTHORIZE', url.href),
};

const transport = () => new StreamableHTTPClientTransport(server, { authProvider: person });

// Does something that may need a person, who then does their part; and does it again.
async function withPerson(attempt) {
  const first = transport();
  try {
    return await attempt(first);
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    const { searchParams } = new URL((await typed.next()).value);
    // The newer one checks the issuer too (RFC 9207).
    await first.finishAuth(isEarlier ? searchParams.get('code') : searchParams);
    return attempt(transport());
  }
}

const options = revision ? { supportedProtocolVersions: [revision] } : { versionNegotiation: { mode: 'auto' } };
async function session(transport, task) {
  const client = new Client({ name: 'interop', version: '1.0.0' }, isEarlier ? {} : options);
  await client.connect(transport);
  const result = await task(client, transport);
  await client.close();
  return result;
}

async function look(client, transport) {
  const spoken = isEarlier ? transport.protocolVersion : client.getNegotiatedProtocolVersion();
  say('SERVER', { revision: spoken, ...client.getServerVersion(), capabilities: client.getServerCapabilities() });
  const { tools } = await client.listTools();
  say('TOOLS', tools.map((tool) => tool.name));
  await client.callTool({ name: 'rm', arguments: {} }).catch(({ code }) => say('FAILED', { code }));
}
const call = (name, args) => (client) => client.callTool({ name, arguments: args });

await withPerson((at) => session(at, look));
say('SCOPE', kept.tokens.scope ?? '');
say('CALLED', await withPerson((at) => session(at, call('add_note', { text: 'Buy milk' }))));
say('SCOPE', kept.tokens.scope ?? '');
say('CALLED', await withPerson((at) => session(at, call('list_notes', {}))));
process.exit(0);
