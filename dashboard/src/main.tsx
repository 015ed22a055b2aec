import '@pulsewire/connection-health';
import type { HealthSource } from '@pulsewire/connection-health';
import { type HTMLAttributes, type JSX, render } from 'preact';
import { Frame } from './frame.js';
import { listenKeys } from './keys.js';
import { listen } from './router.js';
import { begin, token } from './session.js';
import { SignIn } from './signin.js';
import { start } from './store.js';
import './style.css';
import './pages/pages.css';

declare module 'preact' {
  namespace JSX {
    interface IntrinsicElements {
      'connection-health': HTMLAttributes<HTMLElement> & { readonly client?: HealthSource | null; readonly variant?: string };
    }
  }
}

function App(): JSX.Element {
  return token.value === null ? <SignIn /> : <Frame />;
}

const place = document.getElementById('app');
if (!place) throw new Error('the page has no place for the dashboard');
listen();
listenKeys();
// What the last token says is known before anything is drawn: whoever is signed in is not shown the form.
await begin();
start();
render(<App />, place);
