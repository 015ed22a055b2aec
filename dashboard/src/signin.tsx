import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { refusal, signIn, trying } from './session.js';
import { Code, Trouble } from './ui/empty.js';
import { Logo } from './ui/logo.js';

/** Asks for a token, and says how to make one. */
export function SignIn(): JSX.Element {
  const [text, setText] = useState('');
  const box = useRef<HTMLInputElement>(null);
  useEffect(() => box.current?.focus(), []);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const token = text.trim();
    if (token) void signIn(token);
  };
  return (
    <main class="signin">
      <form onSubmit={submit}>
        <h1><Logo /> Pulsewire</h1>
        <label for="token">Token</label>
        <input
          id="token" ref={box} type="password" autocomplete="off" spellcheck={false} value={text} required
          onInput={(event) => setText(event.currentTarget.value)} aria-describedby="token-help"
        />
        <button type="submit" class="button primary" disabled={trying.value}>{trying.value ? 'Signing in …' : 'Sign in'}</button>
        <Trouble problem={refusal.value} />
        <div id="token-help" class="signin-help">
          <p>Whoever may look needs a token of the role <b>viewer</b>; who may also disconnect, silence and drain, of the role <b>operator</b>. On the server:</p>
          <Code label="make a token" text="pulsewire token create --sub you --role operator --ttl 8h" />
          <p>It stays in this tab until the tab is closed, and is sent to this server only. <code>pulsewire serve --dev</code> prints an address that signs in by itself.</p>
        </div>
      </form>
    </main>
  );
}
