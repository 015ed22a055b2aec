import type { Readable, Status, Unsubscribe } from '@pulsewire/client';
import { LABELS, type Labels } from './labels.js';
import { remember } from './memory.js';
import { paint } from './paint.js';
import { type HealthInput, statusOf, viewOf } from './view.js';

/** What the element needs of a client; every client of `@pulsewire/client` is one. */
export interface HealthSource {
  readonly connectionHealth: Readable<HealthInput>;
  readonly queuedMessageCount: Readable<number>;
  readonly usingFallback: Readable<boolean>;
  reconnect(): void;
  /** Without it the `bar` calls an outage of five seconds lost. */
  on?(event: 'lost' | 'failed', listener: () => void): Unsubscribe;
}

/** What can be set on the element. */
export interface Inputs {
  /** Feeds the three that follow, and is what **Retry now** calls. */
  client?: HealthSource | null | undefined;
  /** Document 003's `connectionHealth()`, or as much of it as is known. */
  health?: HealthInput | null | undefined;
  /** Document 003's `queuedMessageCount()`. Default: what `health` says. */
  queuedMessages?: number | null | undefined;
  /** Document 003's `usingFallback()`. Default: what `health` says. */
  usingFallback?: boolean | null | undefined;
  /** Other texts; those that are not given stay English. */
  labels?: Partial<Labels> | null | undefined;
}

/** The events of the element; all bubble and are composed. */
export interface ConnectionHealthEventMap {
  /** The user wants to try again now. Cancel it to keep the element from calling `client.reconnect()`. */
  retry: CustomEvent<null>;
  /** The status is another. */
  statuschange: CustomEvent<{ readonly from: Status; readonly to: Status }>;
}

/** On a server there are no elements: the class can be imported there, but not made. */
const Base = globalThis.HTMLElement ?? (class {} as typeof HTMLElement);

/** Attributes for plain HTML, and what of the health they say. */
const ATTRIBUTES: Readonly<Record<string, keyof HealthInput | ''>> = {
  variant: '',
  status: 'status',
  latency: 'latency',
  'delivery-rate': 'messageDeliveryRate',
  reconnects: 'reconnectionCount',
  queued: 'queuedMessages',
  fallback: 'usingFallback',
};

/** The first three are what a client feeds. */
const INPUTS = ['health', 'queuedMessages', 'usingFallback', 'client', 'labels'] as const satisfies (keyof Inputs)[];

export interface ConnectionHealthElement extends Inputs {
  addEventListener<K extends keyof ConnectionHealthEventMap>(
    type: K, listener: (this: ConnectionHealthElement, event: ConnectionHealthEventMap[K]) => unknown, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener<K extends keyof HTMLElementEventMap>(
    type: K, listener: (this: HTMLElement, event: HTMLElementEventMap[K]) => unknown, options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(type: string, listener: EventListenerOrEventListenerObject, options?: boolean | AddEventListenerOptions): void;
}

/**
 * Shows how a connection is: `<connection-health>`. Give it a `client`, or `health`, `queuedMessages` and `usingFallback`, or
 * in plain HTML the attributes `status`, `latency`, `delivery-rate`, `reconnects`, `queued` and `fallback`. Properties go
 * before attributes. The attribute `variant` is `pill` (default), `dot`, `bar` or `panel`.
 */
export class ConnectionHealthElement extends Base {
  static readonly observedAttributes = Object.keys(ATTRIBUTES);

  static {
    for (const name of INPUTS) {
      Object.defineProperty(this.prototype, name, {
        get(this: ConnectionHealthElement) {
          return this.#inputs[name];
        },
        set(this: ConnectionHealthElement, value: unknown) {
          this.#set(name, value);
        },
      });
    }
  }

  #inputs: Inputs = {};
  #attributes: HealthInput = {};
  #memory = remember(false);
  #ends: (Unsubscribe | undefined)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #turn = 0;
  #show = paint(this.attachShadow({ mode: 'open' }), () => {
    if (this.#emit('retry')) this.client?.reconnect();
  });

  connectedCallback(): void {
    // Values that were set before this class was known hide its accessors. Setting the client again watches it again.
    for (const name of INPUTS) {
      const value = this[name];
      delete this[name];
      this.#set(name, value);
    }
  }

  disconnectedCallback(): void {
    this.#unwatch();
    clearTimeout(this.#timer);
  }

  /** Digits stay text, which reckons as well as numbers do; an attribute without a value is `true`. */
  attributeChangedCallback(name: string, _before: string | null, text: string | null): void {
    Object.assign(this.#attributes, { [ATTRIBUTES[name] ?? '']: text === '' || text });
    this.#plan();
  }

  #set(name: keyof Inputs, value: unknown): void {
    const before = this.client;
    Object.assign(this.#inputs, { [name]: value });
    if (name === 'client') {
      const { client } = this;
      this.#unwatch();
      if (before && !client) this.#inputs = { labels: this.labels };
      if (client && this.isConnected) this.#watch(client);
    }
    this.#plan();
  }

  #watch(client: HealthSource): void {
    const memory = (this.#memory = remember(!!client.on));
    const lose = (): void => {
      memory.lose();
      this.#plan();
    };
    this.#ends = [
      ...[client.connectionHealth, client.queuedMessageCount, client.usingFallback].map((readable, index) =>
        readable.subscribe((value: unknown) => this.#set(INPUTS[index] ?? 'health', value)),
      ),
      client.on?.('lost', lose),
      client.on?.('failed', lose),
    ];
  }

  #unwatch(): void {
    for (const end of this.#ends.splice(0)) end?.();
  }

  /** Many changes at once are shown at once. */
  #plan(): void {
    const turn = ++this.#turn;
    queueMicrotask(() => {
      if (turn === this.#turn && this.isConnected) this.#render();
    });
  }

  #render(): void {
    const { queuedMessages, usingFallback } = this;
    const known: HealthInput = {
      ...this.#attributes,
      ...this.health,
      ...(queuedMessages != null && { queuedMessages }),
      ...(usingFallback != null && { usingFallback }),
    };
    const now = Date.now();
    const status = statusOf(known);
    const [from, reconnected, lost, announce, tick] = this.#memory.look(status, now);
    const view = viewOf(status, known, reconnected, { ...LABELS, ...this.labels }, now);
    this.#show(view, this.getAttribute('variant'), lost, announce);
    clearTimeout(this.#timer);
    if (tick || view[2]) this.#timer = setTimeout(() => this.#render(), 1000);
    if (from && from !== status) this.#emit('statuschange', { from, to: status });
  }

  #emit(type: keyof ConnectionHealthEventMap, detail?: unknown): boolean {
    return this.dispatchEvent(new CustomEvent(type, { detail, bubbles: true, composed: true, cancelable: true }));
  }
}
