// A client of the Model Context Protocol that knows the address of a server and nothing else: the official SDK.
//
//     node client.mjs http://localhost:8000/mcp
//
// Writes a line for whatever happens: `AUTHORIZE <address>` when a person is to sign in, who then types the address
// that the provider led to, and `TOOLS <JSON>`, `CALLED <JSON>` for what the server said.
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const server = new URL(process.argv[2]);
const typed = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (word, what) => console.log(`${word} ${typeof what === 'string' ? what : JSON.stringify(what)}`);

// What is remembered of a sign-in, in memory.
const kept = {};
const person = {
  redirectUrl: 'http://127.0.0.1:1/callback',
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
    const callback = new URL((await typed.next()).value);
    await first.finishAuth(callback.searchParams.get('code'));
    return attempt(transport());
  }
}

async function session(transport, task) {
  const client = new Client({ name: 'interop', version: '1.0.0' });
  await client.connect(transport);
  const result = await task(client);
  await client.close();
  return result;
}

const call = (name, args) => (client) => client.callTool({ name, arguments: args });
const { tools } = await withPerson((at) => session(at, (client) => client.listTools()));
say('TOOLS', tools.map((tool) => tool.name));
say('SCOPE', kept.tokens.scope ?? '');
say('CALLED', await withPerson((at) => session(at, call('add_note', { text: 'Buy milk' }))));
say('SCOPE', kept.tokens.scope ?? '');
say('CALLED', await withPerson((at) => session(at, call('list_notes', {}))));
process.exit(0);
