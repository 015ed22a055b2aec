// Builds and serves the repository's examples on http://127.0.0.1:5173, until Ctrl-C. For development only.
import { readFile, realpath } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, resolve, sep } from 'node:path';
import { root } from './entries.mjs';
import './build.mjs';

const host = '127.0.0.1';
const port = 5173;
const repository = await realpath(resolve(root, '../..'));
/** Nothing else of the repository is served. */
const served = ['examples', 'sdk/typescript/client/dist', 'sdk/typescript/connection-health/dist'].map((path) => resolve(repository, path) + sep);
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.map': 'application/json', '.png': 'image/png' };

const server = createServer(async (request, response) => {
  try {
    const { pathname } = new URL(request.url, `http://${host}`);
    const path = await realpath(resolve(repository, `.${decodeURIComponent(pathname)}`));
    if (!served.some((folder) => path.startsWith(folder))) throw new Error('not served');
    const body = await readFile(path);
    response.writeHead(200, { 'content-type': `${types[extname(path)] ?? 'text/plain'}; charset=utf-8`, 'cache-control': 'no-store' }).end(body);
  } catch {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
  }
});

/** Where a gateway in `--dev` listens and what it lets in, if one runs in the repository's folder. */
async function gateway() {
  try {
    const { url, token } = JSON.parse(await readFile(resolve(repository, 'data/dev.json'), 'utf8'));
    return { url: `${url.replace(/^http/, 'ws')}/ws`, token };
  } catch {
    console.log('Start `pulsewire serve --dev` in the folder of the repository first, or fill in the token that it prints:');
    return { url: 'ws://127.0.0.1:8000/ws', token: 'TOKEN' };
  }
}

server.listen(port, host, async () => {
  console.log(`http://${host}:${port}/examples/connection-health.html?${new URLSearchParams(await gateway())}`);
});
