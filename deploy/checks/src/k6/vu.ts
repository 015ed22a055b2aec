// A virtual user: what runs in its name, and when its iteration has ended.
import { AsyncLocalStorage } from 'node:async_hooks';

const current = new AsyncLocalStorage<Vu>();

/** The user in whose name the caller runs. */
export function vu(): Vu {
  const found = current.getStore();
  if (!found) throw new Error('only virtual users do this');
  return found;
}

/** As in k6, an iteration lasts until its function has returned and no socket, timer or request of it is left. */
export class Vu {
  /** From 1 on. */
  readonly id: number;
  #open = new Set<() => void>();
  #idle: (() => void) | null = null;

  constructor(id: number) {
    this.id = id;
  }

  /** Runs one iteration to its end. */
  async iterate(main: () => unknown): Promise<void> {
    await this.enter(async () => main());
    if (this.#open.size > 0) await new Promise<void>((resolve) => (this.#idle = resolve));
  }

  /** Runs something in the user's name. */
  enter<T>(call: () => T): T {
    return current.run(this, call);
  }

  /** Something has begun that can be cut; what is returned says that it has ended. */
  begin(cut: () => void): () => void {
    this.#open.add(cut);
    return () => {
      this.#open.delete(cut);
      if (this.#open.size === 0) this.#idle?.();
    };
  }

  /** Cuts everything that is left, as k6 does when a load ends and the time for that is over. */
  interrupt(): void {
    for (const cut of [...this.#open]) cut();
  }
}
