import '@pulsewire/connection-health';
import type { ChannelEvent } from '@pulsewire/client';
import { useChannel, usePresence } from '@pulsewire/client/react';
import { StrictMode, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { type App, client, run } from '../../client.js';

declare module 'react' {
  namespace JSX {
    interface IntrinsicElements {
      'connection-health': { client: typeof client };
    }
  }
}

function Run() {
  const [events, setEvents] = useState<readonly ChannelEvent<App, typeof run>[]>([]);
  useChannel(client, run, (event) => setEvents((all) => [...all, event].slice(-50)), { replay: 'critical', presence: true });
  const { members, update } = usePresence(client, run);

  return (
    <main onMouseMove={({ clientX, clientY }) => update({ x: clientX, y: clientY })}>
      <connection-health client={client} />
      <h1>{run}</h1>
      <p>{members.map(({ user, cursor }) => `${user} ${JSON.stringify(cursor ?? '')}`).join(' · ')}</p>
      <ol>
        {events.map(({ sequenceNumber, type, userId, data }) => (
          <li key={sequenceNumber}>{`${type} by ${userId ?? 'nobody'}: ${JSON.stringify(data)}`}</li>
        ))}
      </ol>
      <button onClick={() => client.publish(run, 'note', { text: 'hello' })}>Say hello</button>
    </main>
  );
}

const app = document.querySelector('#app');
if (app) createRoot(app).render(<StrictMode><Run /></StrictMode>);
