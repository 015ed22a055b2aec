// Serves the built page with made-up figures: `npm run fixture -- [port]`. Sign in with any token the start prints.
import { createServer } from 'vite';

const vite = await createServer({ server: { middlewareMode: true }, appType: 'custom', logLevel: 'error' });
const { startFixture, token } = await vite.ssrLoadModule('/test/fixture.ts');
const fixture = await startFixture({ port: Number(process.argv[2] ?? 8100) });
console.log(`${fixture.origin}/#token=${token('operator')}`);
