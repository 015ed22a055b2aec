import type { JSX } from 'preact';
import { useState } from 'preact/hooks';
import { Confirm } from './dialog.js';

/** `revoked`: clients do not come back by themselves. */
const STAY_AWAY = 4506;

interface Props {
  /** `{ session }` or `{ user }`. */
  readonly body: Readonly<Record<string, string>>;
  /** Who that is, in words. */
  readonly who: string;
  readonly onClose: () => void;
}

/** Asks whether somebody is to be disconnected, and does it. */
export function Disconnect({ body, who, onClose }: Props): JSX.Element {
  const [away, setAway] = useState(false);
  return (
    <Confirm title={`Disconnect ${who}?`} word="Disconnect" path="/api/admin/websocket/disconnect" body={away ? { ...body, code: STAY_AWAY } : body} onClose={onClose}>
      <p>Clients come back by themselves after a while (close code 1013). This is written to the audit log.</p>
      <label class="check"><input type="checkbox" checked={away} onChange={(event) => setAway(event.currentTarget.checked)} /> They shall stay away (close code {STAY_AWAY})</label>
    </Confirm>
  );
}
